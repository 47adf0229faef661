"""At which level each night's test is made, so that few of all promotions are chance, however many nights there are.

LORD++ (Ramdas, Yang, Wainwright, Jordan 2017, arXiv 1710.00499; after Javanmard and Montanari 2018): a budget of wealth
is spent on tests and earned back by rejections. For independent p-values the false discovery rate at every night is at
most alpha; the error of the first promotion is bounded by the initial wealth.
"""

import math
from collections.abc import Sequence
from functools import cache

_TERMS = 10_000
"""Nights over which the shares sum up to 1; later ones get nothing."""


def level(night: int, promotions: Sequence[int], alpha: float, wealth: float | None = None) -> float:
    """The level of night `night` (from 1), after promotions on these earlier nights.

    `wealth` is W_0, by default alpha / 2. Raises ValueError unless 0 < W_0 <= alpha < 1, and promotions are ascending
    and before the night.
    """
    start = alpha / 2.0 if wealth is None else wealth
    if not 0.0 < start <= alpha < 1.0:
        raise ValueError(f"0 < wealth <= alpha < 1 must hold, got wealth {start:g} and alpha {alpha:g}")
    nights = list(promotions)
    if nights != sorted(set(nights)) or (nights and not 1 <= nights[0] <= nights[-1] < night) or night < 1:
        raise ValueError(f"promotions must be ascending nights before night {night}, got {nights}")
    spent = start * share(night)
    if nights:
        spent += (alpha - start) * share(night - nights[0])
    return spent + alpha * sum(share(night - earlier) for earlier in nights[1:])


def share(night: int) -> float:
    """gamma_j: what the j-th night after a gain gets of it; they sum up to 1 and fall slowly.

    Proportional to log(max(j, 2)) / (j exp(sqrt(log j))), as in the paper's experiments.
    """
    return _raw(night) / _total() if 1 <= night <= _TERMS else 0.0


def _raw(j: int) -> float:
    return math.log(max(j, 2)) / (j * math.exp(math.sqrt(math.log(j))))


@cache
def _total() -> float:
    return math.fsum(_raw(j) for j in range(1, _TERMS + 1))
