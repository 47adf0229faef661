"""Shares with their intervals."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from prefopt.card.shards import Floats

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Share:
    """`hits` of `n`."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        """None for a share of nothing, as are the ends of its interval."""
        return self.hits / self.n if self.n else None

    @property
    def low(self) -> float | None:
        """The lower end of the Wilson interval."""
        return self._ends[0]

    @property
    def high(self) -> float | None:
        """The upper end."""
        return self._ends[1]

    @cached_property
    def _ends(self) -> tuple[float, float] | tuple[None, None]:
        if not self.n:
            return None, None
        ends = stats.binomtest(self.hits, self.n).proportion_ci(LEVEL, method="wilson")
        return float(ends.low), float(ends.high)


def share(hits: float, n: float) -> Share:
    """A share from counts of any numeric kind."""
    return Share(int(hits), int(n))


@dataclass(frozen=True)
class Mean:
    """A mean of values in [0, 1] with its normal interval at LEVEL."""

    n: int
    value: float | None
    low: float | None
    high: float | None


def mean_of_sums(n: float, total: float, squares: float) -> Mean:
    """The mean of n values from their sum and the sum of their squares; no interval for fewer than two."""
    if not n:
        return Mean(0, None, None, None)
    value = total / n
    if n < 2:
        return Mean(int(n), value, None, None)
    spread = np.sqrt(max(squares - n * value**2, 0.0) / (n - 1) / n) * stats.norm.ppf((1 + LEVEL) / 2)
    return Mean(int(n), value, float(max(value - spread, 0.0)), float(min(value + spread, 1.0)))


def two_sided(hits: ArrayLike, n: ArrayLike) -> Floats:
    """p of the exact binomial test of shares against one half; 1 for a share of nothing."""
    hits, n = np.asarray(hits), np.asarray(n)
    smaller = np.minimum(hits, n - hits)
    return np.asarray(np.minimum(1.0, 2.0 * stats.binom.cdf(smaller, n, 0.5)))


def one_sided(hits: ArrayLike, n: ArrayLike, rate: float) -> Floats:
    """p of the exact binomial test that shares lie below a rate."""
    return np.asarray(stats.binom.cdf(hits, n, rate), dtype=np.float64)


def moved(early: tuple[ArrayLike, ArrayLike], late: tuple[ArrayLike, ArrayLike]) -> Floats:
    """p that early and late shares, (hits, n) each, are one: Fisher's exact test, the smaller tail doubled."""
    (hits, n), (other_hits, other_n) = ((np.asarray(a), np.asarray(b)) for a, b in (early, late))
    known = stats.hypergeom(n + other_n, hits + other_hits, n)
    tail = np.minimum(known.cdf(hits), known.sf(hits - 1))
    return np.asarray(np.minimum(1.0, 2.0 * np.where((n > 0) & (other_n > 0), tail, 1.0)))


def corrected(p: Floats) -> Floats:
    """p-values corrected for their number, so that among those below a level at most that share are false alarms."""
    return np.asarray(stats.false_discovery_control(p), dtype=np.float64) if p.size else p
