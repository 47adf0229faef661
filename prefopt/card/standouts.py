"""Which annotators stand out, by exact tests: they agree less than everyone, favour a side, or change over time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from prefopt.card.people import MEASURES, PeopleTally
from prefopt.card.shards import Floats, Ints
from prefopt.card.shares import corrected, moved, one_sided, two_sided
from prefopt.page.formats import percent

FALSE_ALARMS = 0.05
"""Share of those who stand out by one test that may do so by chance (Benjamini and Hochberg)."""
_AGREEMENT = {"others": "the others", "panel": "the panel"}


@dataclass(frozen=True)
class Standout:
    """One test over all annotators."""

    name: str
    p: Floats
    """Corrected for the number of annotators."""
    words: Callable[[int], str]
    """What stands out about an annotator, by row."""

    @property
    def stands_out(self) -> np.ndarray:
        """Which annotators do."""
        return self.p < FALSE_ALARMS


def standouts(tally: PeopleTally, *, position_known: bool) -> list[Standout]:
    """Every test that the counts allow. `position_known`: whether votes tell which side an annotator favours."""
    found = []
    for row, name in enumerate(MEASURES):
        everyone = tally.everyone[row].sum(axis=0)
        n, hits = np.moveaxis(tally.each[:, row].sum(axis=1), -1, 0)
        if not everyone[0] or (name == "first" and not position_known):
            continue
        if name == "first":
            found.append(Standout(name, corrected(two_sided(hits, n)), partial(_favours, hits, n)))
        else:
            rate = float(everyone[1] / everyone[0])
            words = partial(_agrees_less, hits, n, rate, _AGREEMENT[name])
            found.append(Standout(name, corrected(one_sided(hits, n, rate)), words))
        if len(tally.bins):
            early, late = halves(tally.each[:, row])
            p = moved((early[1], early[0]), (late[1], late[0]))
            found.append(Standout(f"{name}_over_time", corrected(p), partial(_moved, name, early, late)))
    return found


def halves(counts: Ints) -> tuple[Ints, Ints]:
    """[2, annotators] of how many votes, and the share's part, before and after the time that halves their votes best.

    `counts` are [annotators, bins and votes without a time, 2], of two bins or more.
    """
    timed = counts[:, :-1]
    before, total = np.cumsum(timed, axis=1)[:, :-1], timed.sum(axis=1)
    cut = np.argmin(np.abs(2 * before[..., 0] - total[:, None, 0]), axis=1)
    early = before[np.arange(len(counts)), cut]
    return early.T, (total - early).T


def _agrees_less(hits: Ints, n: Ints, rate: float, whom: str, row: int) -> str:
    return f"agrees with {whom} in {percent(hits[row] / n[row])} of {n[row]:,} votes (everyone: {percent(rate)})"


def _favours(hits: Ints, n: Ints, row: int) -> str:
    side, part = ("first", hits[row]) if 2 * hits[row] >= n[row] else ("second", n[row] - hits[row])
    return f"names the image shown {side} in {percent(part / n[row])} of {n[row]:,} votes"


def _moved(name: str, early: Ints, late: Ints, row: int) -> str:
    what = f"agreement with {_AGREEMENT[name]}" if name in _AGREEMENT else "the share of the image shown first"
    before, after = (percent(part[1, row] / part[0, row]) for part in (early, late))
    return f"{what} went from {before} to {after} over time"
