"""How well the minority metric finds flipped labels, where the truth is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.labels import TIE
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, Roc, auroc_estimate, roc_points

BINS = 25


@dataclass(frozen=True)
class Detection:
    """One source of u: its distribution over labels, and how it ranks flipped above clean ones."""

    source: str
    """`online` (training's own, the mean over a label's visits) or `offline` (the score stage's panel)."""
    edges: Floats
    clean: Floats
    """Counts of labels per bin of u, flipped ones apart where the truth is known."""
    flipped: Floats | None
    auroc: Estimate | None
    roc: Roc | None


def label_truth(labels: pa.Table, votes: pa.Table, rule: str) -> pa.Table:
    """Which training labels noise injection turned over: (vote_id, pair_id, label, flipped), sorted by vote_id.

    `labels` and `votes` hold the same rows after and before injection. Under `each_vote` a row is a vote that
    counts; under another rule it is a pair, named as training names it, and flipped means that the majority moved.
    Ties are left out.
    """
    columns = ["vote_id", "pair_id", "label"]
    after = labels.filter(labels["latest"]).select(columns)
    before = votes.filter(votes["latest"]).select(columns)
    if rule != "each_vote":
        after, before = _majorities(after), _majorities(before)
    order = [("vote_id", "ascending")]
    after, before = after.sort_by(order), before.sort_by(order)
    assert after["vote_id"].equals(before["vote_id"]), "noise injection keeps every vote"
    new, old = after["label"].to_numpy(), before["label"].to_numpy()
    flipped = np.sign(new - TIE) != np.sign(old - TIE)
    return after.append_column("flipped", pa.array(flipped)).filter(pa.array(new != TIE))


def _majorities(votes: pa.Table) -> pa.Table:
    shares = votes.group_by("pair_id", use_threads=False).aggregate([("label", "mean")])
    pairs = shares["pair_id"]
    return pa.table({"vote_id": pairs, "pair_id": pairs, "label": shares["label_mean"]})


def offline_u(truth: pa.Table, scores: pa.Table) -> pa.Table | None:
    """(vote_id, u) of every label from the pair's scores, which are oriented to image_0; None without a panel.

    The label "image_1 wins" has u' = stability - u.
    """
    known = scores.filter(pc.is_valid(scores["u"])).select(["pair_id", "u", "stability"])
    if not known.num_rows:
        return None
    joined = truth.select(["vote_id", "pair_id", "label"]).join(known, "pair_id", join_type="inner", use_threads=False)
    first, u, stability = (joined[name].to_numpy() for name in ("label", "u", "stability"))
    return pa.table({"vote_id": joined["vote_id"], "u": np.where(first > TIE, u, stability - u)})


def online_u(minority: pa.Table, warmup: int) -> pa.Table:
    """(vote_id, u): the mean of the u that training saw over a label's visits after the warm-up, which has no u."""
    seen = minority.filter(pc.greater(minority["step"], warmup))
    means = seen.group_by("vote_id", use_threads=False).aggregate([("u", "mean")])
    return pa.table({"vote_id": means["vote_id"], "u": means["u_mean"]})


def detect(
    source: str, truth: pa.Table, u: pa.Table, prompts: Mapping[str, str], how: Resampling, *, injected: bool
) -> Detection | None:
    """Distribution and, where noise was injected, AUROC and ROC of u for flipped labels; None without a label.

    `prompts` maps pair_id to the cluster of the bootstrap.
    """
    joined = truth.join(u, "vote_id", join_type="inner", use_threads=False).sort_by([("vote_id", "ascending")])
    joined = joined.filter(pc.is_finite(joined["u"]))
    if not joined.num_rows:
        return None
    values = joined["u"].to_numpy().astype(np.float64)
    flipped = np.asarray(joined["flipped"].to_numpy(zero_copy_only=False), dtype=bool)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    inside = np.clip(values, 0.0, 1.0)

    def histogram(chosen: np.ndarray) -> Floats:
        return np.histogram(inside[chosen], edges)[0].astype(np.float64)

    if not injected or flipped.all() or not flipped.any():
        return Detection(source, edges, histogram(np.full(len(values), True)), None, None, None)
    clusters = [prompts[pair] for pair in joined["pair_id"].to_pylist()]
    estimate = auroc_estimate(values, flipped, clusters, how, f"auroc {source}")
    return Detection(source, edges, histogram(~flipped), histogram(flipped), estimate, roc_points(values, flipped))
