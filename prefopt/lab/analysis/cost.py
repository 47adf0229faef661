"""What quality costs: methods in several lengths of training, and where one reaches another's end.

Cost is in UNet forwards, which follow from the config. Time by the clock is no cost: what one cell stores others read,
cells run side by side, and a cell that was resumed knows its last sitting alone. A seed counts for a family only with
all of its lengths, so that every point of a curve is a mean over the same seeds. Between two lengths quality is taken
to be linear in cost. Nothing is said below the shortest length that was run, so that a method that is good enough there
has a cost of at most that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.statistics import Difference, difference, geometric_mean, mean

Families = Mapping[str, Sequence[str]]


class Spot(NamedTuple):
    """A length of training of one seed."""

    cost: float
    """UNet forwards of score and training."""
    quality: float


@dataclass(frozen=True)
class Length:
    """One length of one family."""

    family: str
    method: str
    forwards: Estimate
    train_seconds: Estimate
    quality: Estimate


@dataclass(frozen=True)
class Reached:
    """What a family needs to be as good as the first one's longest training."""

    family: str
    noise: Noise
    shares: dict[int, float | None]
    """Of the first family's cost, by seed; None: never, at any length that was run."""
    at_most: bool
    """Whether some seed is there at its shortest length already, so that the true share may be smaller."""
    share: Estimate | None
    """The geometric mean of the shares; None unless every seed reaches."""

    @property
    def reaching(self) -> int:
        """Seeds that get there."""
        return sum(share is not None for share in self.shares.values())


def lengths(grid: Grid, noise: Noise, families: Families, measure: Measure) -> list[Length]:
    """Those of families with a seed that has all of them, as the config lists them."""
    found = []
    for family, methods in families.items():
        seeds = _whole_seeds(grid, noise, methods, measure)
        for method in methods if seeds else ():
            own = {seed: grid.at(method, noise)[seed] for seed in seeds}
            forwards = mean({seed: one.cost.forwards for seed, one in own.items()})
            seconds = mean({seed: one.cost.train_seconds for seed, one in own.items()})
            quality = mean({seed: grid.values(method, noise, measure.of)[seed] for seed in seeds}, measure.limits)
            if forwards and seconds and quality:
                found.append(Length(family, method, forwards, seconds, quality))
    return found


def reached(grid: Grid, noise: Noise, families: Families, measure: Measure) -> list[Reached]:
    """For each family but the first, those with seeds that can be compared."""
    (_, first), *others = families.items()
    ends = _ends(grid, noise, first, measure)
    found = []
    for family, methods in others:
        curves = _curves(grid, noise, methods, measure)
        at = {seed: crossing(curves[seed], ends[seed].quality) for seed in sorted(curves.keys() & ends.keys())}
        if not at:
            continue
        shares = {seed: None if c is None else c / ends[seed].cost for seed, c in at.items()}
        known = {seed: share for seed, share in shares.items() if share is not None}
        found.append(
            Reached(
                family=family,
                noise=noise,
                shares=shares,
                at_most=any(c == curves[seed][0].cost for seed, c in at.items()),
                share=geometric_mean(known) if len(known) == len(shares) else None,
            )
        )
    return found


def lead_at(
    grid: Grid, noise: Noise, families: Families, family: str, measure: Measure, share: float
) -> Difference | None:
    """A family's quality at a share of the first one's whole cost, minus the first one's final quality, by seed.

    None unless lengths were run on both sides of that cost, or the longest of all costs less.
    """
    first = next(iter(families.values()))
    ends = _ends(grid, noise, first, measure)
    curves = _curves(grid, noise, families[family], measure)
    here: dict[int, float] = {}
    for seed in curves.keys() & ends.keys():
        cost_there = share * ends[seed].cost
        if curves[seed][0].cost <= cost_there:
            here[seed] = float(
                np.interp(cost_there, [spot.cost for spot in curves[seed]], [spot.quality for spot in curves[seed]])
            )
    return difference(here, {seed: end.quality for seed, end in ends.items()})


def crossing(curve: Sequence[Spot], target: float) -> float | None:
    """The smallest cost at which a curve, by rising cost, has the target's quality; None: never."""
    if curve[0].quality >= target:
        return curve[0].cost
    for before, after in pairwise(curve):
        if after.quality >= target:
            part = (target - before.quality) / (after.quality - before.quality)
            return before.cost + part * (after.cost - before.cost)
    return None


def _curves(grid: Grid, noise: Noise, methods: Sequence[str], measure: Measure) -> dict[int, list[Spot]]:
    """A family's lengths by seed, by rising cost."""
    seeds = _whole_seeds(grid, noise, methods, measure)
    return {seed: sorted(_spot(grid, noise, method, seed, measure) for method in methods) for seed in seeds}


def _ends(grid: Grid, noise: Noise, methods: Sequence[str], measure: Measure) -> dict[int, Spot]:
    """A family's longest training by seed."""
    return {
        seed: _spot(grid, noise, methods[-1], seed, measure) for seed in _whole_seeds(grid, noise, methods, measure)
    }


def _spot(grid: Grid, noise: Noise, method: str, seed: int, measure: Measure) -> Spot:
    return Spot(grid.at(method, noise)[seed].cost.forwards, grid.values(method, noise, measure.of)[seed])


def _whole_seeds(grid: Grid, noise: Noise, methods: Sequence[str], measure: Measure) -> list[int]:
    """Seeds that have the measure at every length."""
    return sorted(set.intersection(*(set(grid.values(method, noise, measure.of)) for method in methods)))
