"""Whether one model is better than another: a sign test over prompts, corrected for how many tests are made."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from prefopt.evaluation.statistics import Floats


def sign_test(won: int, lost: int) -> float:
    """The two-sided p of so many wins and losses if both are equally likely; 1 without any."""
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p-values whose family-wise error rate is held, in the same order."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(values) else scaled
    return [float(value) for value in adjusted]


def decided(tuned: Floats, base: Floats, prompts: ArrayLike) -> tuple[int, int]:
    """Different prompts of which more images win than lose, and of which more lose than win."""
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    lead = np.bincount(index, weights=np.sign(tuned - base))
    return int((lead > 0).sum()), int((lead < 0).sum())
