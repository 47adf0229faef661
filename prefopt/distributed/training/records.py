"""What a step leaves behind: a line of figures, and the online u of every visit. docs/health.md explains the keys."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from prefopt.distributed.training.engine import StepOutcome
from prefopt.distributed.training.step import PairValues

_NOT_FOR_LOGS = {"z", "u_online", "u_offline", "u", "timestep", "reference_w", "reference_l"}


def pair_arrays(values: PairValues) -> dict[str, np.ndarray]:
    """The figures of a global batch as `prefopt.health` reads them."""
    return {name: value.numpy() for name, value in values.items()}


def step_record(
    step: int, lr: float, outcome: StepOutcome, values: PairValues, health: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The line of steps.jsonl of a step, counted from 1: means over the pairs of the global batch, no time.

    `health` are the figures that `HealthMonitor.observe` gives for the step.
    """
    record: dict[str, Any] = {
        "step": step,
        "loss": float(values["loss"].mean()),
        "grad_norm": outcome.grad_norm,
        "lr": lr,
        "skipped": not outcome.applied,
    }
    record |= {name: float(value.mean()) for name, value in sorted(values.items()) if name not in _NOT_FOR_LOGS}
    for name in ("u", "u_online", "u_offline"):
        if name in values:
            record[f"{name}_mean"] = float(values[name].mean())
    if "u_online" in values and "u_offline" in values:
        record["u_rank_correlation"] = rank_correlation(values["u_online"].numpy(), values["u_offline"].numpy())
    record |= health or {}
    return {name: _finite(value) for name, value in record.items()}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation; None if one of the two does not vary."""
    a, b = rankdata(first), rankdata(second)
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def flat_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers of a record, for trackers; lists become `name/0`, `name/1` and so on."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        cells = (
            {f"{name}/{index}": cell for index, cell in enumerate(value)} if isinstance(value, list) else {name: value}
        )
        flat |= {key: float(cell) for key, cell in cells.items() if isinstance(cell, int | float)}
    return flat


def record_line(record: dict[str, Any]) -> str:
    """A record as one line of JSON."""
    return json.dumps(record, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
