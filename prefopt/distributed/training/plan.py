"""The plan that the workers read: visits joined with their prompts and with what the score stage knows of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.objective import AdaptiveParams, DroDpoParams, ObjectiveConfig, SmpoParams, WeightedDpoParams
from prefopt.config.train import TrainConfig
from prefopt.data.ids import row_uniform
from prefopt.data.labels import TIE
from prefopt.distributed.training.job import PLAN_SCHEMA
from prefopt.errors import InputError

_MADE_BY = {"alpha": "alpha", "u": "panel", "weight": "panel"}


def join_plan(visits: pa.Table, pairs: pa.Table, scores: pa.Table, train: TrainConfig) -> tuple[pa.Table, list[str]]:
    """The plan (PLAN_SCHEMA) and its prompts, in the order of their first visit.

    alpha, u and weight are turned from image_0 to each visit's own label. Raises InputError for another number of
    visits than training makes, pairs that are unknown or not in the training split, ties, and a missing alpha, u or
    weight.
    """
    wanted = train.steps * train.global_batch
    if visits.num_rows != wanted:
        raise InputError(
            f"The score stage planned {visits.num_rows} visits, but training makes {wanted}: run it again."
        )
    known = {row["pair_id"]: row for row in pairs.select(["pair_id", "prompt", "split"]).to_pylist()}
    visited = visits["pair_id"].to_pylist()
    _check_pairs(visited, known)
    labels = visits["label"].to_numpy()
    if (labels == TIE).any():
        raise InputError(
            f"Visit {visits['visit_id'][int(np.argmax(labels == TIE))]} is a tie: ties cannot be trained on."
        )
    prompts: dict[str, int] = {}
    places = [prompts.setdefault(known[pair]["prompt"], len(prompts)) for pair in visited]
    scored = scores.take(pc.index_in(visits["pair_id"], scores["pair_id"].combine_chunks()))
    alpha, u = _by_label(labels, scored)
    plan = visits.append_column("prompt", pa.array(places, pa.int32()))
    plan = plan.append_column("alpha", alpha).append_column("u", u)
    plan = plan.append_column("weight", pc.subtract(1.0, u)).cast(PLAN_SCHEMA)
    _check_side_inputs(plan, train)
    return plan, list(prompts)


def _check_pairs(visited: list[str], known: Mapping[str, Mapping[str, Any]]) -> None:
    for pair in visited:
        if pair not in known:
            raise InputError(f"The visits name pair {pair}, which ingest's pairs do not hold: run the stages again.")
        if known[pair]["split"] != "train":
            raise InputError(
                f"The visits name pair {pair} of the {known[pair]['split']} split: training takes the train split only."
            )


def _by_label(labels: np.ndarray, scored: pa.Table) -> tuple[pa.Array, pa.Array]:
    first_wins = pa.array(labels > TIE)
    alpha = pc.if_else(first_wins, scored["alpha"], pc.subtract(1.0, scored["alpha"]))
    u = pc.if_else(first_wins, scored["u"], pc.subtract(scored["stability"], scored["u"]))
    return alpha, u


def _check_side_inputs(plan: pa.Table, train: TrainConfig) -> None:
    params = train.objective
    offline = isinstance(params, AdaptiveParams) and params.u.source != "online"
    needed = {"alpha": isinstance(params, SmpoParams), "u": offline, "weight": _weighs(params)}
    if train.reference == "cached" and plan["reference_0"].null_count:
        raise InputError(
            f"train.reference cached needs the reference's errors of every visit, but {plan['reference_0'].null_count}"
            f" of {plan.num_rows} have none: run the score stage again with this config."
        )
    for name, is_needed in needed.items():
        if is_needed and plan[name].null_count:
            raise InputError(
                f"Objective {params.name} needs {name} of every pair, but {plan[name].null_count} of {plan.num_rows}"
                f" visits have none: set score.{_MADE_BY[name]} and run the score stage again."
            )


def _weighs(params: ObjectiveConfig) -> bool:
    if isinstance(params, DroDpoParams):
        return params.calibration == "weight"
    return isinstance(params, WeightedDpoParams) and "weight" in params.use


def paired_prompts(config: RunConfig, prompts: Sequence[str]) -> list[str]:
    """The fixed prompts among those of the validation split: the first in hash order. InputError if there are none."""
    wanted = config.train.health.evaluation
    assert wanted is not None
    found = sorted(set(prompts), key=lambda prompt: (row_uniform(config.seed, "paired prompts", prompt), prompt))
    if not found:
        raise InputError(
            "train.health.evaluation needs prompts of the validation split, and there are none: raise"
            " ingest.split.validation, or leave the evaluation out."
        )
    return found[: wanted.prompts]
