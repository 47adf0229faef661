"""The two sides as tables: which pairs are new, which of them are compared, and what their labels say."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.ids import normalised_prompt, row_uniform
from prefopt.data.labels import TIE
from prefopt.drift.chance import Bools, Floats
from prefopt.drift.means import Labels
from prefopt.drift.people import Voters


def training_pairs(pairs: pa.Table, known: Collection[str]) -> pa.Table:
    """pair_id, prompt (normalised), image_0, image_1 and new (not in `known`) of the training split."""
    train = pairs.filter(pc.equal(pairs["split"], "train")).select(["pair_id", "prompt", "image_0", "image_1"])
    prompts = pa.array([normalised_prompt(prompt) for prompt in train["prompt"].to_pylist()], pa.string())
    old = pc.is_in(train["pair_id"], pa.array(sorted(known), pa.string()))
    return train.set_column(1, "prompt", prompts).append_column("new", pc.invert(old))


def sampled(train: pa.Table, rows: int, seed: int) -> pa.Table:
    """The first `rows` pairs of each side in hash order, known ones first."""
    parts = []
    for new in (False, True):
        side = train.filter(pc.equal(train["new"], new))
        names = side["pair_id"].to_pylist()
        places = sorted(range(len(names)), key=lambda row: (_place(seed, "pair", names[row]), names[row]))
        parts.append(side.take(pa.array(places[:rows], pa.int64())))
    return pa.concat_tables(parts)


def sampled_prompts(train: pa.Table, rows: int, seed: int) -> tuple[list[str], list[str]]:
    """The first `rows` different prompts of each side in hash order: known, new."""
    found = []
    for new in (False, True):
        prompts = set(train.filter(pc.equal(train["new"], new))["prompt"].to_pylist())
        found.append(sorted(prompts, key=lambda prompt: (_place(seed, "prompt", prompt), prompt))[:rows])
    return found[0], found[1]


def _place(seed: int, what: str, name: str) -> float:
    return row_uniform(seed, f"drift {what}", name)


def votes_of(labels: pa.Table, train: pa.Table) -> pa.Table:
    """Votes that count (latest) of these pairs, with prompt and new, sorted by vote_id."""
    counted = labels.filter(labels["latest"]).select(["vote_id", "pair_id", "annotator", "group", "label"])
    places = pc.index_in(counted["pair_id"], train["pair_id"].combine_chunks())
    ours, places = counted.filter(places.is_valid()), places.drop_null()
    ours = ours.append_column("prompt", train["prompt"].take(places))
    return ours.append_column("new", train["new"].take(places)).sort_by("vote_id")


def voters(votes: pa.Table, compared: pa.Table) -> Voters:
    """Who gave the votes of the compared pairs; who was never seen before is told from all votes."""
    new = votes["new"].to_numpy(zero_copy_only=False)
    annotators = votes["annotator"].to_pylist()
    seen = {name for name, late in zip(annotators, new.tolist(), strict=True) if not late}
    fresh = [bool(name) and name not in seen for name in annotators]
    some = votes.filter(pc.is_in(votes["pair_id"], compared["pair_id"].combine_chunks()))
    return Voters(
        some["annotator"].to_pylist(),
        some["group"].to_pylist(),
        some["new"].to_numpy(zero_copy_only=False),
        unseen=sum(fresh) / max(1, int(new.sum())),
    )


def agreement(votes: pa.Table, scores: pa.Table) -> Labels | None:
    """Whether each label agrees with alpha, or else with the panel's majority; None where neither was computed.

    Ties have no side, nor have pairs of which alpha or the majority is 1/2.
    """
    for column in ("alpha", "panel_majority"):
        if scores[column].null_count < scores.num_rows:
            preferred = _of_votes(votes, scores, column)
            judged = np.isfinite(preferred) & (preferred != TIE)
            label = votes["label"].to_numpy()
            return _labels(votes, ((label > TIE) == (preferred > TIE)).astype(np.float64), judged & (label != TIE))
    return None


def minority(votes: pa.Table, scores: pa.Table) -> Labels | None:
    """The offline u of each label; None where no panel sat. Ties, and pairs without u, are left out."""
    if scores["u"].null_count == scores.num_rows:
        return None
    label = votes["label"].to_numpy()
    u, stability = (_of_votes(votes, scores, column) for column in ("u", "stability"))
    of_label = np.where(label > TIE, u, stability - u)
    return _labels(votes, of_label, np.isfinite(of_label) & (label != TIE))


def _of_votes(votes: pa.Table, scores: pa.Table, column: str) -> Floats:
    places = pc.index_in(votes["pair_id"], scores["pair_id"].combine_chunks())
    return np.asarray(scores[column].take(places).to_numpy(), dtype=np.float64)


def _labels(votes: pa.Table, values: Floats, kept: Bools) -> Labels:
    some = votes.filter(pa.array(kept))
    return Labels(
        some["prompt"].to_pylist(),
        some["pair_id"].to_pylist(),
        some["new"].to_numpy(zero_copy_only=False),
        values[kept],
    )
