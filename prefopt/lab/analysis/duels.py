"""Methods against each other at the same noise, paired by seed, p values corrected for how many are compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.statistics import Difference, corrected, difference


@dataclass(frozen=True)
class Duel:
    """One method minus another."""

    noise: Noise
    first: str
    second: str
    difference: Difference
    """Its p is corrected over all duels of one table."""


def against(grid: Grid, champion: str, others: Sequence[str], measure: Measure) -> list[Duel]:
    """One method against each other at every noise."""
    return _duels(grid, [(champion, other) for other in others if other != champion], measure)


def all_duels(grid: Grid, methods: Sequence[str], measure: Measure) -> list[Duel]:
    """Each against every other at every noise."""
    return _duels(grid, combinations(methods, 2), measure)


def _duels(grid: Grid, pairs: Iterable[tuple[str, str]], measure: Measure) -> list[Duel]:
    found = [
        (noise, first, second, made)
        for first, second in pairs
        for noise in grid.noises
        if (made := difference(grid.values(first, noise, measure.of), grid.values(second, noise, measure.of)))
    ]
    tested = corrected([made for *_, made in found])
    return [Duel(noise, first, second, one) for (noise, first, second, _), one in zip(found, tested, strict=True)]
