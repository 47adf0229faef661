"""Whether one model is better than another: a sign test over prompts, corrected for how many tests are made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from prefopt.evaluation.statistics import Floats


@dataclass(frozen=True, kw_only=True)
class SignTested:
    """A figure that a sign test over prompts goes with."""

    OUTCOMES: ClassVar[tuple[str, str]] = ("better", "worse")
    """What more prompts won and more prompts lost are called."""
    won: int
    """Prompts of which the model wins more images than it loses."""
    lost: int
    p: float
    """Of the sign test that neither model is better."""
    adjusted: float
    """That p after Holm's correction over all that are tested together."""

    def outcome(self, level: float) -> str:
        """One of OUTCOMES, or `undecided` unless the corrected p lies below 1 - level."""
        if self.adjusted >= 1.0 - level:
            return "undecided"
        return self.OUTCOMES[0] if self.won > self.lost else self.OUTCOMES[1]

    def record(self) -> dict[str, Any]:
        """Its part of a record in JSON."""
        return {"prompts_won": self.won, "prompts_lost": self.lost, "p": self.p, "p_holm": self.adjusted}


Tested = TypeVar("Tested", bound=SignTested)


def tested(tuned: Floats, base: Floats, prompts: ArrayLike) -> SignTested:
    """The sign test over the prompts of images, both [n], not corrected yet."""
    won, lost = decided(tuned, base, prompts)
    p = sign_test(won, lost)
    return SignTested(won=won, lost=lost, p=p, adjusted=p)


def corrected(found: Sequence[Tested]) -> list[Tested]:
    """The same figures, p corrected over all of them."""
    adjusted = holm([one.p for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


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
