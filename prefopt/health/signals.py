"""What an optimizer step says about learning: sums over its pairs, which add up over steps. Source: prefopt.

Shape key: B pairs of a global batch. "Winner" is the side that the objective prefers: the label's winner, except
where SmPO's factor is negative.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SATURATED_LOGIT = math.log(39.0)
"""Where the slope of -log sigma(x), sigma(-x), falls to 5 % of its value at 0: sigma(-ln 39) = 1/40."""


@dataclass(frozen=True)
class Counters:
    """Sums over pairs. Pairs with a figure that is not finite count in `broken` alone."""

    pairs: int = 0
    broken: int = 0
    loss: float = 0.0
    judged: int = 0
    """Pairs with a logit, the argument of the objective's sigma: the base of the sums below."""
    plain_loss: float = 0.0
    """-log sigma(logit), without the objective's weights."""
    logit_squares: float = 0.0
    saturated: int = 0
    """Logit above SATURATED_LOGIT: the pair is settled and carries no gradient."""
    opposed: int = 0
    """Logit below -SATURATED_LOGIT: the pair is far on the wrong side and pulls with nearly full force."""
    correct: tuple[float, ...] = ()
    """By equal parts of the timesteps: pairs whose winner comes first, ties as one half."""
    counted: tuple[int, ...] = ()
    """By the same parts: pairs."""
    referenced: int = 0
    """Pairs with the reference's errors: the base of the sums below."""
    error_w: float = 0.0
    error_l: float = 0.0
    reference_w: float = 0.0
    reference_l: float = 0.0
    gap_squares: float = 0.0
    """Of z = (reference_w - reference_l) - (error_w - error_l)."""
    measured: int = 0
    """Pairs with a distance."""
    distance: float = 0.0
    """Mean squared difference of the policy's and the reference's predictions."""

    def __add__(self, other: "Counters") -> "Counters":
        """The sums of both; parts of the timesteps must agree unless one side has none."""
        sums: dict[str, Any] = {f.name: _add(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Counters(**sums)


@dataclass(frozen=True)
class StepSignals:
    """One optimizer step."""

    step: int
    """Counted from 1."""
    applied: bool
    """False if the step was skipped because its gradient was not finite."""
    grad_norm: float | None
    """Global norm before clipping; None where it is not finite."""
    counters: Counters

    def as_json(self) -> dict[str, Any]:
        """Plain values that survive JSON exactly."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "StepSignals":
        """From `as_json`."""
        counters: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values["counters"].items()
        }
        return StepSignals(values["step"], values["applied"], values["grad_norm"], Counters(**counters))


def step_signals(
    step: int,
    values: Mapping[str, np.ndarray],
    *,
    applied: bool,
    grad_norm: float,
    buckets: int,
    num_timesteps: int,
) -> StepSignals:
    """The signals of a step from the figures [B] of its global batch. A skipped step counts no pair.

    Read from `values`: loss and timestep (0..num_timesteps-1); where there: logit, factor, margin, error_w, error_l,
    reference_w, reference_l and distance. Everything else is left alone.
    """
    norm = float(grad_norm) if math.isfinite(grad_norm) else None
    counters = count_pairs(values, buckets, num_timesteps) if applied else Counters()
    return StepSignals(step, applied, norm, counters)


def count_pairs(values: Mapping[str, np.ndarray], buckets: int, num_timesteps: int) -> Counters:
    """The sums over the pairs of a global batch; `values` as `step_signals` reads them."""
    known = {name: np.asarray(values[name], np.float64) for name in _READ if name in values}
    whole = np.logical_and.reduce([np.isfinite(value) for value in known.values()])
    known = {name: value[whole] for name, value in known.items()}
    factor = known.get("factor", np.ones_like(known["loss"]))
    sums: dict[str, Any] = {"pairs": int(whole.sum()), "broken": int((~whole).sum()), "loss": _sum(known["loss"])}
    if "logit" in known:
        sums |= _count_logits(known, factor, buckets, num_timesteps)
    if {"reference_w", "reference_l"} <= known.keys():
        sums |= _count_errors(known, factor)
    if "distance" in known:
        sums |= {"measured": sums["pairs"], "distance": _sum(known["distance"])}
    return Counters(**sums)


_READ = (
    "loss",
    "timestep",
    "logit",
    "factor",
    "margin",
    "error_w",
    "error_l",
    "reference_w",
    "reference_l",
    "distance",
)


def _count_logits(known: Mapping[str, Floats], factor: Floats, buckets: int, num_timesteps: int) -> dict[str, Any]:
    preference = factor * known["logit"]
    argument = preference - known.get("margin", np.zeros_like(preference))
    points = 0.5 * (np.sign(preference) + 1.0)
    part = np.minimum((known["timestep"] * buckets / num_timesteps).astype(np.int64), buckets - 1)
    return {
        "judged": argument.size,
        "plain_loss": _sum(np.logaddexp(0.0, -argument)),
        "logit_squares": _sum(np.square(argument)),
        "saturated": int((argument > SATURATED_LOGIT).sum()),
        "opposed": int((argument < -SATURATED_LOGIT).sum()),
        "correct": tuple(float(value) for value in np.bincount(part, weights=points, minlength=buckets)),
        "counted": tuple(int(value) for value in np.bincount(part, minlength=buckets)),
    }


def _count_errors(known: Mapping[str, Floats], factor: Floats) -> dict[str, Any]:
    swap = factor < 0.0
    sums: dict[str, Any] = {"referenced": swap.size}
    for name in ("error", "reference"):
        w, l_ = known[f"{name}_w"], known[f"{name}_l"]
        sums |= {f"{name}_w": _sum(np.where(swap, l_, w)), f"{name}_l": _sum(np.where(swap, w, l_))}
    z = (known["reference_w"] - known["reference_l"]) - (known["error_w"] - known["error_l"])
    return {**sums, "gap_squares": _sum(np.square(z))}


def total(window: Sequence[StepSignals]) -> Counters:
    """The sums over some steps."""
    return reduce(Counters.__add__, (signals.counters for signals in window), Counters())


def _sum(values: Floats) -> float:
    return float(values.sum())


def _add(first: Any, second: Any) -> Any:
    if not isinstance(first, tuple):
        return first + second
    if not first or not second:
        return first or second
    return tuple(a + b for a, b in zip(first, second, strict=True))
