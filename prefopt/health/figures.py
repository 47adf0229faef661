"""The figures of a window of steps, from its sums. Source: prefopt."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from prefopt.health.signals import Counters, StepSignals, total

LEVEL = 0.95
"""Of every interval here."""


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedEvaluation:
    """Images of a few fixed prompts from the policy and from its start, with the same noise: who wins."""

    step: int
    wins: Share
    broken: int = 0
    """Images of the policy that are no images, since their values are not finite. They lose."""


@dataclass(frozen=True)
class Figures:
    """What a window of steps says. None stands for what could not be measured."""

    first: int
    """The window's first step, counted from 1."""
    last: int
    applied: int
    skipped: int
    pairs: int
    broken: int
    """Pairs of applied steps with figures that are not finite."""
    loss: float | None
    accuracy: Share | None
    """Share of pairs whose winner the policy prefers more than the reference does, ties as one half."""
    accuracy_by_timestep: tuple[Share | None, ...]
    """The same by equal parts of the timesteps, the least noisy first."""
    plain_loss: float | None
    """Mean of -log sigma(logit), without the objective's weights: ln 2 for a policy that equals its reference."""
    logit_rms: float | None
    """Root mean square of the argument of the objective's sigma."""
    saturated: float | None
    opposed: float | None
    winner_drift: float | None
    """The policy's error on winners over the reference's, minus 1."""
    loser_drift: float | None
    gap: float | None
    """Root mean square of z over the reference's mean error: how far pairs have moved apart."""
    distance: float | None
    """Mean squared difference of the policy's and the reference's predictions."""
    grad_norm: float | None
    """Median over the applied steps, before clipping."""
    grad_norm_spread: float | None
    """Distance between the quartiles over the median."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def wilson(points: float, n: int, level: float = LEVEL) -> Share | None:
    """A share of points / n with the Wilson interval; None for n = 0.

    With half points, which ties give, it reaches from the lower number's end to the upper one's. ValueError unless
    0 <= points <= n.
    """
    if not 0.0 <= points <= n:
        raise ValueError(f"{points} of {n} is not a share")
    if n == 0:
        return None
    low, high = (
        binomtest(whole, n).proportion_ci(confidence_level=level, method="wilson")
        for whole in (math.floor(points), math.ceil(points))
    )
    return Share(points / n, float(low.low), float(high.high), n)


def summarise(window: Sequence[StepSignals]) -> Figures:
    """The figures of some steps, in order. ValueError without steps."""
    if not window:
        raise ValueError("a window needs a step")
    sums = total(window)
    norms = np.array([s.grad_norm for s in window if s.applied and s.grad_norm is not None])
    low, median, high = np.percentile(norms, [25, 50, 75]) if norms.size else (math.nan,) * 3
    return Figures(
        first=window[0].step,
        last=window[-1].step,
        applied=sum(s.applied for s in window),
        skipped=sum(not s.applied for s in window),
        pairs=sums.pairs,
        broken=sums.broken,
        loss=_over(sums.loss, sums.pairs),
        accuracy=wilson(sum(sums.correct), sum(sums.counted)),
        accuracy_by_timestep=tuple(wilson(*part) for part in zip(sums.correct, sums.counted, strict=True)),
        **_logit_figures(sums),
        **_error_figures(sums),
        distance=_over(sums.distance, sums.measured),
        grad_norm=float(median) if norms.size else None,
        grad_norm_spread=float((high - low) / median) if norms.size and median > 0.0 else None,
    )


def step_figures(signals: StepSignals) -> dict[str, Any]:
    """What steps.jsonl holds of a step beside the means over its pairs; None where it could not be measured."""
    sums = signals.counters
    logits, errors = _logit_figures(sums), _error_figures(sums)
    return {
        **{name: logits[name] for name in ("logit_rms", "saturated", "opposed")},
        **{name: errors[name] for name in ("winner_drift", "loser_drift")},
        "accuracy_by_timestep": [_over(*part) for part in zip(sums.correct, sums.counted, strict=True)],
        "pairs_by_timestep": list(sums.counted),
    }


def _logit_figures(sums: Counters) -> dict[str, float | None]:
    squares = _over(sums.logit_squares, sums.judged)
    return {
        "plain_loss": _over(sums.plain_loss, sums.judged),
        "logit_rms": None if squares is None else math.sqrt(squares),
        "saturated": _over(sums.saturated, sums.judged),
        "opposed": _over(sums.opposed, sums.judged),
    }


def _error_figures(sums: Counters) -> dict[str, float | None]:
    mean = _over(0.5 * (sums.reference_w + sums.reference_l), sums.referenced)
    squares = _over(sums.gap_squares, sums.referenced)
    return {
        "winner_drift": _drift(sums.error_w, sums.reference_w),
        "loser_drift": _drift(sums.error_l, sums.reference_l),
        "gap": math.sqrt(squares) / mean if mean and squares is not None else None,
    }


def _drift(error: float, reference: float) -> float | None:
    return error / reference - 1.0 if reference > 0.0 else None


def _over(total_: float, count: int) -> float | None:
    return total_ / count if count else None
