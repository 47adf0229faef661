"""Methods against each other at the same noise, paired by seed, p values corrected for how many are compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from prefopt.evaluation.significance import holm
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.statistics import LEVEL, Difference, difference


@dataclass(frozen=True)
class Duel:
    """One method minus another."""

    noise: Noise
    first: str
    second: str
    difference: Difference
    adjusted: float | None = None
    """p after Holm's correction over all duels of one table; None where there is no p."""

    @property
    def decided(self) -> bool:
        """Whether chance is ruled out, the correction included."""
        return self.adjusted is not None and self.adjusted < 1.0 - LEVEL


def against(grid: Grid, champion: str, others: Sequence[str], measure: Measure) -> list[Duel]:
    """One method against each other at every noise."""
    return _duels(grid, [(champion, other) for other in others if other != champion], measure)


def all_duels(grid: Grid, methods: Sequence[str], measure: Measure) -> list[Duel]:
    """Each against every other at every noise."""
    return _duels(grid, combinations(methods, 2), measure)


def corrected(duels: Sequence[Duel]) -> list[Duel]:
    """The same duels, p corrected over all of them that have one."""
    known = [duel.difference.p for duel in duels if duel.difference.p is not None]
    adjusted = iter(holm(known))
    return [duel if duel.difference.p is None else replace(duel, adjusted=next(adjusted)) for duel in duels]


def _duels(grid: Grid, pairs: Iterable[tuple[str, str]], measure: Measure) -> list[Duel]:
    found = [
        Duel(noise, first, second, made)
        for first, second in pairs
        for noise in grid.noises
        if (made := difference(grid.values(first, noise, measure.of), grid.values(second, noise, measure.of)))
    ]
    return corrected(found)
