"""Win rates, AUROC and their intervals: a percentile bootstrap that draws whole clusters (prompts) with replacement."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.ids import row_rng

Floats = NDArray[np.float64]
TieRule = Literal["half", "nobody"]
_MEMORY_CELLS = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval, over n observations."""

    value: float
    low: float | None
    high: float | None
    """None where fewer than two clusters leave nothing to resample."""
    n: int


@dataclass(frozen=True)
class Resampling:
    """How intervals are made. The same seed and data give the same interval."""

    bootstrap: BootstrapConfig
    seed: int

    def rng(self, name: str) -> np.random.Generator:
        """The generator of one named figure."""
        return row_rng(self.seed, "bootstrap", name)

    def ends(self) -> tuple[float, float]:
        """The two quantiles of a percentile interval."""
        tail = (1.0 - self.bootstrap.level) / 2.0
        return tail, 1.0 - tail


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """A figure with its interval and its number of observations."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def win_points(tuned: ArrayLike, base: ArrayLike, ties: TieRule) -> Floats:
    """[n] points of the tuned model: 1 for a higher score, 0 for a lower one; a tie gives 1/2 (`half`) or 0."""
    first, second = np.asarray(tuned, dtype=np.float64), np.asarray(base, dtype=np.float64)
    return np.asarray((first > second) + (first == second) * (0.5 if ties == "half" else 0.0), dtype=np.float64)


def mean_estimate(values: ArrayLike, clusters: ArrayLike, how: Resampling, name: str) -> Estimate:
    """The mean of `values` [n] with a cluster bootstrap; `clusters` [n] names each value's cluster.

    Raises ValueError for no values.
    """
    observed = np.asarray(values, dtype=np.float64)
    if not observed.size:
        raise ValueError("there are no values to average")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, weights=observed), np.bincount(index).astype(np.float64)
    value = float(observed.mean())
    if len(sums) < 2:
        return Estimate(value, None, None, observed.size)

    def ratio(sum_: Floats, count: Floats, axis: int) -> Floats:
        return np.asarray(sum_.sum(axis=axis) / count.sum(axis=axis))

    drawn = stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=how.bootstrap.resamples,
        batch=max(1, _MEMORY_CELLS // len(sums)),
        confidence_level=how.bootstrap.level,
        method="percentile",
        rng=how.rng(name),
    ).confidence_interval
    return Estimate(value, float(drawn.low), float(drawn.high), observed.size)


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """P(a positive's score is above a negative's), ties half: the Mann-Whitney statistic over its largest value.

    Raises ValueError unless both kinds are present.
    """
    truth = np.asarray(positive, dtype=bool)
    hits, misses = int(truth.sum()), int((~truth).sum())
    if not hits or not misses:
        raise ValueError("AUROC needs at least one positive and one negative")
    ranks = stats.rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[truth].sum() - hits * (hits + 1) / 2.0) / (hits * misses))


def auroc_estimate(scores: ArrayLike, positive: ArrayLike, clusters: ArrayLike, how: Resampling, name: str) -> Estimate:
    """AUROC with a cluster bootstrap: each resample weighs every cluster by how often it was drawn.

    Resamples without a positive or without a negative are left out. Raises ValueError as `auroc`.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    value = auroc(values, truth)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return Estimate(value, None, None, values.size)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    member, hit = index[order], truth[order]
    rng, drawn = how.rng(name), np.empty(how.bootstrap.resamples)
    for resample in range(len(drawn)):
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]
        drawn[resample] = _weighted_auroc(weight * hit, weight * ~hit, starts)
    low, high = np.nanquantile(drawn, how.ends())
    return Estimate(value, float(low), float(high), values.size)


def _weighted_auroc(hits: NDArray[np.int64], misses: NDArray[np.int64], starts: NDArray[np.intp]) -> float:
    """AUROC from weights in ascending order of score; `starts` marks where each distinct score begins."""
    hit = np.add.reduceat(hits, starts).astype(np.float64)
    miss = np.add.reduceat(misses, starts).astype(np.float64)
    total = hit.sum() * miss.sum()
    below = np.cumsum(miss) - miss
    return float((hit * (below + 0.5 * miss)).sum() / total) if total else float("nan")


class Roc(NamedTuple):
    """Points of a ROC curve, [n] each."""

    fpr: Floats
    tpr: Floats
    thresholds: Floats
    """Scores at or above it are called positive. The first is the highest score plus 1, which none reaches, and not
    infinite, so that JSON can hold it."""


def roc_points(scores: ArrayLike, positive: ArrayLike, most: int = 200) -> Roc:
    """False and true positive rates from (0, 0) to (1, 1) as the threshold falls, thinned to about `most` points.

    Raises ValueError unless both kinds are present, and for scores that are not finite.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if truth.all() or not truth.any():
        raise ValueError("a ROC curve needs at least one positive and one negative")
    if not np.isfinite(values).all():
        raise ValueError("a ROC curve needs finite scores")
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(values[order]) != 0, True])
    hits = np.cumsum(truth[order])[ends] / truth.sum()
    alarms = np.cumsum(~truth[order])[ends] / (~truth).sum()
    falling = values[order][ends]
    points = Roc(np.r_[0.0, alarms], np.r_[0.0, hits], np.r_[falling[0] + 1.0, falling])
    if len(points.fpr) <= most:
        return points
    kept = np.unique(np.linspace(0, len(points.fpr) - 1, most).round().astype(np.int64))
    return Roc(*(column[kept] for column in points))
