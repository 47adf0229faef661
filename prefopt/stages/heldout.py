"""Held-out pairs of an evaluation, the votes on them, and how models were found to judge them."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.evaluate import EvaluateConfig
from prefopt.data.framing import Framing
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.errors import InputError
from prefopt.evaluation.accuracy import HeldoutPair, heldout_pairs
from prefopt.evaluation.groups import GroupVote, group_votes
from prefopt.evaluation.statistics import Floats
from prefopt.stages.base import StageOutput


def split_pairs(ingest: StageOutput, evaluate: EvaluateConfig) -> tuple[list[dict[str, Any]], set[str]]:
    """The pairs of the split to evaluate on, and the prompts of all others. InputError if prompts are drawn from the
    split and it is empty."""
    split = evaluate.split
    rows: list[dict[str, Any]] = []
    elsewhere: set[str] = set()
    for file in ingest.manifest.files_like("pairs-"):
        pairs = ingest.storage.read_table(file)
        inside = pc.equal(pairs["split"], split)
        rows += pairs.filter(inside).to_pylist()
        elsewhere |= set(pairs.filter(pc.invert(inside))["prompt"].to_pylist())
    if not rows and evaluate.draws_heldout:
        raise InputError(
            f"The {split} split is empty, so there is nothing to evaluate on: raise ingest.split.{split}, give more"
            " data, or raise limit."
        )
    return rows, elsewhere


def heldout_votes(
    ingest: StageOutput, test: list[dict[str, Any]], config: RunConfig
) -> tuple[list[HeldoutPair], list[GroupVote]]:
    """Those pairs of the split that the implicit accuracy takes, and the votes on them, as they came, before any
    injected noise."""
    evaluate = config.evaluate
    if not evaluate.accuracy.pairs or not test:
        return [], []
    wanted = pa.array([row["pair_id"] for row in test])
    votes = []
    for file in ingest.manifest.files_like("votes-"):
        table = ingest.storage.read_table(file, ["pair_id", "label", "latest", "group"])
        votes += table.filter(pc.is_in(table["pair_id"], wanted)).to_pylist()
    images = read_tables(ingest, "images-", ["image_id", "height", "width"])
    seen = pa.array([row[side] for row in test for side in ("image_0", "image_1")], pa.string())
    framing = Framing.of(config.score.sizes, images.filter(pc.is_in(images["image_id"], seen)))
    told = config.score.size_conditioning
    pairs = heldout_pairs(test, votes, framing, told, most=evaluate.accuracy.pairs, seed=evaluate.seed)
    return pairs, group_votes(pairs, test, votes)


def heldout_gaps(output: Storage, files: Sequence[str], model: str) -> dict[str, Floats]:
    """A model's error gaps z [draws] of every held-out pair, from an evaluation's files; none if none were measured."""
    pattern = re.compile(rf"accuracy-{re.escape(model)}-\d+\.parquet")
    chosen = sorted(filter(pattern.fullmatch, files))
    if not chosen:
        return {}
    rows = pa.concat_tables(output.read_table(file, ["pair_id", "z"]) for file in chosen)
    pairs = rows["pair_id"].to_pylist()
    z = rows["z"].to_numpy().reshape(len(dict.fromkeys(pairs)), -1)
    return dict(zip(pairs[:: z.shape[1]], z, strict=True))
