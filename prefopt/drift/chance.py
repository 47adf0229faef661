"""What chance alone would give: the same rows, dealt out anew between the two sides (permutation tests).

Rows of one prompt are alike, so that a test which moves single rows would see drift where there is none. A prompt that
one side alone has therefore moves as a whole; one that both have stays on both, and its pairs change places among
themselves. If new data are like known data, both leave every distribution as it is, so that the tests are exact; that
of annotators, who vote on both sides, is not (`people.swapped`). Source: prefopt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefopt.data.ids import row_rng

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
LEAST = 20
"""With fewer prompts, images, votes or labels on a side nothing is measured."""
_CHUNK = 100
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Chance:
    """How often chance is asked. The same seed and rows give the same answer."""

    permutations: int = 999
    seed: int = 0

    def rng(self, signal: str) -> np.random.Generator:
        """The generator of one signal."""
        return row_rng(self.seed, "drift", signal)


@dataclass(frozen=True)
class Measured:
    """What a signal found."""

    value: float
    p: float
    known: int
    new: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Unmeasured:
    """Why a signal found nothing."""

    reason: str
    known: int = 0
    new: int = 0


Finding = Measured | Unmeasured


@dataclass(frozen=True)
class Units:
    """What moves between the sides as a whole: U units, of n rows."""

    of_row: Ints
    """[n] each row's unit."""
    new: Bools
    """[U]"""
    stratum: Ints
    """[U] units change places within their stratum alone."""


def too_few(what: str, known: int, new: int) -> Unmeasured | None:
    """Why so many rows of each side cannot be compared; None if they can."""
    for side, count in (("known", known), ("new", new)):
        if count < LEAST:
            return Unmeasured(f"there are {count} {side} {what}, and at least {LEAST} are needed", known, new)
    return None


def codes(names: Sequence[str]) -> Ints:
    """Numbers from 0 without gaps, in the names' order."""
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([places[name] for name in names], dtype=np.intp)


def units_of(prompts: Sequence[str], pairs: Sequence[str], new: Bools) -> Units:
    """Units of rows [n] that belong to these prompts and pairs; a pair is on one side alone.

    A prompt of one side is a unit, and all of them are one stratum. A pair is a unit if its prompt is on both sides,
    and the prompt is its stratum.
    """
    prompt, pair = codes(prompts), codes(pairs)
    both = (np.bincount(prompt, weights=new) > 0) & (np.bincount(prompt, weights=~new) > 0)
    key = np.where(both[prompt], prompt.max(initial=0) + 1 + pair, prompt)
    _, first, of_row = np.unique(key, return_index=True, return_inverse=True)
    return Units(of_row, new[first], np.where(both[prompt], prompt + 1, 0)[first])


def shuffles(units: Units, chance: Chance, signal: str) -> Bools:
    """[permutations + 1, U] whether each unit is new: first as it is, then as chance would have it."""
    order = np.argsort(units.stratum, kind="stable")
    dealt, rng = units.new[order], chance.rng(signal)
    found = np.empty((chance.permutations + 1, len(order)), dtype=bool)
    found[0] = units.new
    for start in range(1, len(found), _CHUNK):
        part = found[start : start + _CHUNK]
        keys = units.stratum[order] + rng.random(part.shape)
        part[:, order] = dealt[np.argsort(keys, axis=1)]
    return found


def chance_p(statistics: Floats) -> float:
    """How often chance gives at least the first of [permutations + 1] statistics, which counts as one of them."""
    least = statistics[0] - _ROUNDING * max(1.0, abs(statistics[0]))
    return float(np.mean(statistics >= least))


def beyond_chance(statistics: Floats) -> float:
    """By how much the first is above the mean of the others, or 0."""
    excess = float(statistics[0] - statistics[1:].mean())
    return excess if excess > _ROUNDING else 0.0


def rounded(figures: dict[str, Any]) -> dict[str, float]:
    """Plain numbers of six decimals: those that follow differ between machines."""
    return {name: round(float(value), 6) for name, value in figures.items()}
