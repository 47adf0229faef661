"""The labels of a run that may be wrong, and what its stages thought of them."""

from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.data.tables import read_tables
from prefopt.evaluation.minority import label_truth, offline_u, online_u
from prefopt.stages.base import StageOutput

MINORITY = "minority.parquet"
ONLINE, OFFLINE = "online", "offline"
"""Sources of u: training's own, and the score stage's panel."""


def labels_with_truth(config: RunConfig, stages: Mapping[str, StageOutput], splits: Collection[str]) -> pa.Table:
    """`label_truth` of these splits, from the outputs of ingest and inject."""
    ingest, inject = stages["ingest"], stages["inject"]
    columns = ["vote_id", "pair_id", "label", "latest"]
    truth = label_truth(
        read_tables(inject, "labels-", columns), read_tables(ingest, "votes-", columns), config.labels.rule
    )
    pairs = read_tables(ingest, "pairs-", ["pair_id", "split"])
    inside = pairs.filter(pc.is_in(pairs["split"], pa.array(list(splits), pa.string())))
    return truth.filter(pc.is_in(truth["pair_id"], inside["pair_id"].combine_chunks()))


def u_by_source(config: RunConfig, stages: Mapping[str, StageOutput], truth: pa.Table) -> dict[str, pa.Table]:
    """(vote_id, u) of the labels that have one, from the outputs of score and train. Online first: it is what training
    used, where it was computed."""
    score, train = stages["score"], stages["train"]
    found = {OFFLINE: offline_u(truth, read_tables(score, "scores-", ["pair_id", "u", "stability"]))}
    if MINORITY in train.manifest.files_like(MINORITY):
        seen = train.storage.read_table(MINORITY, ["vote_id", "step", "u"])
        found = {ONLINE: online_u(seen, _warmup(config)), **found}
    return {name: u for name, u in found.items() if u is not None}


def _warmup(config: RunConfig) -> int:
    """Optimizer steps in which training has no online u yet."""
    objective = config.train.objective
    if not isinstance(objective, AdaptiveParams) or objective.u.normalise != "running":
        return 0
    return objective.u.warmup
