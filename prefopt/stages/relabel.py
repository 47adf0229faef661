"""Baselines that change the labels before training sees them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.labels import LabelsConfig
from prefopt.data.labels import TIE
from prefopt.minority.transforms import filter_minority, flip_minority, majority_vote


def relabelled(votes: pa.Table, scores: pa.Table | None, config: LabelsConfig, voters: int = 0) -> pa.Table:
    """The votes that training may use, with the labels it sees; all columns as they were but `label`.

    `scores`, which may be missing under `relabel: none`, has a row for each pair; a vote's u is that of its own label,
    stability - u for the second image. Ties stay ties, and votes that do not count are neither dropped nor flipped.
    Under `majority_vote` the first `voters` annotators vote, which are the panel's reward models: Adaptive-DPO's
    baseline is a vote of metrics, and people's own votes, or policies trained on them, would vote for the noise.
    """
    if config.relabel == "none":
        return _with_labels(votes, votes["label"].to_numpy(), config)
    assert scores is not None, "a panel's scores come before labels that follow them"
    of_vote = pc.index_in(votes["pair_id"], scores["pair_id"].combine_chunks()).to_numpy()
    labels = votes["label"].to_numpy().astype(np.float64)
    if config.relabel == "majority_vote":
        margins = np.stack([np.asarray(row[:voters]) for row in scores["margins"].to_pylist()], axis=1)
        labels = np.where(labels == TIE, TIE, majority_vote(margins)[of_vote])
    elif config.relabel in ("filter_minority", "flip_minority"):
        judged = np.flatnonzero((labels != TIE) & votes["latest"].to_numpy(zero_copy_only=False))
        ids = votes["vote_id"].take(judged).to_pylist()
        u = _of_label(scores, of_vote[judged], labels[judged])
        if config.relabel == "filter_minority":
            kept = np.ones(len(labels), dtype=bool)
            kept[judged] = filter_minority(u, config.share, ids)
            return _with_labels(votes, labels, config).filter(pa.array(kept))
        labels[judged] = flip_minority(labels[judged], u, config.share, ids)
    return _with_labels(votes, labels, config)


def _of_label(scores: pa.Table, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    u, stability = (scores[name].to_numpy()[rows] for name in ("u", "stability"))
    of_label: np.ndarray = np.where(labels > TIE, u, np.maximum(stability - u, 0.0))
    return of_label


def _with_labels(votes: pa.Table, labels: np.ndarray, config: LabelsConfig) -> pa.Table:
    seen = 1.0 - labels if config.reverse else labels
    field = votes.schema.field("label")
    return votes.set_column(votes.schema.get_field_index("label"), field, pa.array(seen, field.type))
