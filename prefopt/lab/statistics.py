"""Figures over seeds with 95 % intervals by Student's t, cut at the limits of what is measured; what is compared is
paired by seed.

A seed draws the data, the flips and the visits of all methods alike, so that the difference of two methods within a
seed is free of what the seed did to both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from prefopt.evaluation.significance import holm
from prefopt.evaluation.statistics import Estimate, Floats

LEVEL = 0.95
Seeded = Mapping[int, float]
"""A figure by seed."""
Limits = tuple[float, float]
UNLIMITED: Limits = (-math.inf, math.inf)
SHARE: Limits = (0.0, 1.0)
CORRELATION: Limits = (-1.0, 1.0)
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Difference:
    """Of two conditions, over the seeds that have both."""

    estimate: Estimate
    p: float | None
    """Of the two-sided paired t test; None where there is no interval either."""
    adjusted: float | None = None
    """That p after Holm's correction over all differences of one table; None until `corrected`."""

    @property
    def decided(self) -> bool:
        """Whether chance is ruled out, the correction included. Seeds that all differ alike decide nothing: a win rate
        has few steps, so that a few seeds take the same one by chance, and there is no spread to test it by."""
        return self.adjusted is not None and self.adjusted < 1.0 - LEVEL


def mean(values: Seeded, limits: Limits = UNLIMITED) -> Estimate | None:
    """The mean over seeds, and an interval that stays within the limits of the figure; None for no seed.

    It has no interval where one seed, or seeds that all agree, show no spread to judge by.
    """
    drawn = _array(values)
    if not drawn.size:
        return None
    value = float(drawn.mean())
    half = _half_width(drawn)
    if half is None:
        return Estimate(value, None, None, drawn.size)
    least, most = limits
    return Estimate(value, max(least, value - half), min(most, value + half), drawn.size)


def geometric_mean(values: Seeded) -> Estimate | None:
    """The geometric mean of positive figures, as shares of a cost; its interval is made on their logarithms."""
    found = mean({seed: float(np.log(value)) for seed, value in values.items()})
    if found is None:
        return None
    value, low, high = (None if end is None else float(np.exp(end)) for end in (found.value, found.low, found.high))
    assert value is not None
    return Estimate(value, low, high, found.n)


def difference(first: Seeded, second: Seeded) -> Difference | None:
    """first - second, paired by seed; None if no seed has both."""
    deltas = {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}
    found = mean(deltas)
    if found is None:
        return None
    if found.low is None:
        return Difference(found, None)
    return Difference(found, float(stats.ttest_1samp(_array(deltas), 0.0).pvalue))


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same differences, p corrected over all of them that have one."""
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else replace(one, adjusted=next(adjusted)) for one in found]


def ratio(part: Seeded, whole: Seeded) -> Estimate | None:
    """mean(part) / mean(whole), paired by seed, with Fieller's interval (Fieller 1954).

    None if no seed has both, and unless the interval of the whole lies above 0: a share of what may be nothing has no
    bounded interval. A single seed gives a value without an interval.
    """
    seeds = sorted(part.keys() & whole.keys())
    y, x = (np.array([side[seed] for seed in seeds], dtype=np.float64) for side in (part, whole))
    if not seeds or x.mean() <= 0.0:
        return None
    value, n = float(y.mean() / x.mean()), len(seeds)
    if n == 1:
        return Estimate(value, None, None, n)
    t2 = _quantile(n) ** 2
    (vy, cov), (_, vx) = np.cov(y, x) / n
    a, b, c = x.mean() ** 2 - t2 * vx, x.mean() * y.mean() - t2 * cov, y.mean() ** 2 - t2 * vy
    if a <= 0.0:
        return None
    if _half_width(y - value * x) is None:
        return Estimate(value, None, None, n)
    reach = float(np.sqrt(max(0.0, b * b - a * c)))
    return Estimate(value, float((b - reach) / a), float((b + reach) / a), n)


def _array(values: Seeded) -> Floats:
    """In the order of seeds, so that the last bit does not hang on the order of outcomes."""
    return np.array([values[seed] for seed in sorted(values)], dtype=np.float64)


def _half_width(drawn: Floats) -> float | None:
    if drawn.size < 2:
        return None
    spread = float(drawn.std(ddof=1))
    if spread <= _NO_SPREAD * max(1.0, float(np.abs(drawn).max())):
        return None
    return _quantile(drawn.size) * spread / float(np.sqrt(drawn.size))


def _quantile(n: int) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2.0, n - 1))
