"""The outcome of a finished cell, read from its run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.config.evaluate import TUNED
from prefopt.data.storage import Storage
from prefopt.evaluation.statistics import auroc
from prefopt.lab.cells import Cell
from prefopt.lab.outcome import BINS, Cost, Detected, Outcome
from prefopt.lab.truth import against_truth
from prefopt.planning.amounts import Item
from prefopt.planning.counting import count_ingested
from prefopt.planning.flops import forward_costs
from prefopt.planning.work import all_work
from prefopt.stages.base import StageOutput
from prefopt.stages.minority import labels_with_truth, u_by_source

_UNET = "UNet forwards"
_NOT_COUNTED = ("UNet forwards to draw images", "UNet forwards for policy snapshots")
"""Images of the paired evaluation while training, and what judges pairs for the offline u."""


def measure(
    cell: Cell, config: RunConfig, run: Storage, stages: Mapping[str, StageOutput], truth: str | None
) -> Outcome:
    """Its figures. `stages` are the run's finished ones by name; `truth` is a reward that has judged all pairs."""
    evaluate = stages["evaluate"]
    found = json.loads(evaluate.storage.read_bytes("metrics.json"))
    labels = labels_with_truth(config, stages, ("train",))
    flipped = np.asarray(labels["flipped"].to_numpy(zero_copy_only=False), dtype=bool)
    minority: np.ndarray | None = None
    if truth is not None:
        minority = against_truth(config, stages["ingest"], Storage(config.store), truth, labels)
    sources = u_by_source(config, stages, labels)
    groups = (found["accuracy_by_group"] or {}).get("rows", [])
    tuned, base = found["models"][TUNED], found["base_scores"]
    return Outcome(
        key=evaluate.manifest.key,
        method=cell.method,
        noise=cell.noise,
        rate=cell.rate,
        seed=cell.seed,
        candidate=cell.candidate,
        settings=list(cell.settings),
        cpu=evaluate.manifest.environment["cpu"],
        accuracy=_value(found["accuracy_heldout"]),
        accuracy_by_group={row["group"]: row["accuracy"]["value"] for row in groups},
        win_rates={name: tuned[name]["win_rate"]["value"] for name in config.evaluate.rewards},
        scores={name: tuned[name]["mean"] - base[name]["mean"] for name in config.evaluate.rewards},
        distance=_value(_of_tuned(found["distance_from_base"])),
        diversity=_value((_of_tuned(found["diversity"]) or {}).get("within_change")),
        flipped=int(flipped.sum()),
        truth=truth,
        minority=None if minority is None else int(minority.sum()),
        labels=labels.num_rows,
        detected={name: _detected(labels, u, flipped, minority) for name, u in sources.items()},
        cost=_cost(config, run, stages),
    )


def _of_tuned(figures: dict[str, Any] | None) -> dict[str, Any] | None:
    return figures["models"].get(TUNED) if figures else None


def _value(estimate: dict[str, Any] | None) -> float | None:
    return estimate["value"] if estimate else None


def _detected(labels: pa.Table, u: pa.Table, flipped: np.ndarray, minority: np.ndarray | None) -> Detected:
    values = dict(zip(u["vote_id"].to_pylist(), u["u"].to_pylist(), strict=True))
    known = np.asarray([values.get(vote, np.nan) for vote in labels["vote_id"].to_pylist()], dtype=np.float64)
    seen = np.isfinite(known)

    def counts(chosen: np.ndarray) -> list[int]:
        inside = np.clip(known[seen & chosen], 0.0, 1.0)
        return [int(count) for count in np.histogram(inside, BINS, (0.0, 1.0))[0]]

    return Detected(
        labels=counts(np.full(len(known), True)),
        flipped=counts(flipped),
        minority=None if minority is None else counts(minority),
        auroc_flipped=_auroc(known[seen], flipped[seen]),
        auroc_minority=None if minority is None else _auroc(known[seen], minority[seen]),
    )


def _auroc(values: np.ndarray, positive: np.ndarray) -> float | None:
    return None if positive.all() or not positive.any() else auroc(values, positive)


def _cost(config: RunConfig, run: Storage, stages: Mapping[str, StageOutput]) -> Cost:
    counts, costs = count_ingested(run), forward_costs(config.model)
    assert counts is not None, "a measured run has ingested"
    work, forward = all_work(config, counts, costs), costs.mean_unet(config.score.sizes).total
    return Cost(
        score_forwards=unet_flops(work["score"].items) / forward,
        train_forwards=unet_flops(work["train"].items) / forward,
        score_seconds=_seconds(run, stages, "score"),
        train_seconds=_seconds(run, stages, "train"),
    )


def unet_flops(items: Sequence[Item]) -> float:
    """Of inversions, reference errors and training steps, but not of images that are drawn while training, nor of the
    panel's policy snapshots."""
    counted = (item for item in items if item.what.startswith(_UNET) and item.what not in _NOT_COUNTED)
    return sum(item.count * item.flops for item in counted)


def _seconds(run: Storage, stages: Mapping[str, StageOutput], stage: str) -> float:
    logged = json.loads(run.read_bytes(f"logs/{stage}/{stages[stage].manifest.key[:12]}.json"))
    return float(logged["seconds"])
