"""What quality costs: methods in several lengths of training, and where one reaches another's end.

Between two lengths quality is taken to be linear in cost. Nothing is said below the shortest length that was run, so
that a method that is good enough there has a cost of at most that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.outcome import Outcome
from prefopt.lab.statistics import Difference, Seeded, difference, geometric_mean, mean

Families = Mapping[str, Sequence[str]]


class CostMeasure(NamedTuple):
    """A way to count what a cell took, score stage and training together."""

    slug: str
    name: str
    of: Callable[[Outcome], float]


FORWARDS = CostMeasure("forwards", "UNet forwards", lambda outcome: outcome.cost.forwards)
SECONDS = CostMeasure("seconds", "seconds", lambda outcome: outcome.cost.score_seconds + outcome.cost.train_seconds)


class Spot(NamedTuple):
    """A length of training of one seed."""

    cost: float
    quality: float


@dataclass(frozen=True)
class Length:
    """One length of one family."""

    family: str
    method: str
    forwards: Estimate
    seconds: Estimate
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
    """Every length that has cells, as the config lists them."""
    found = []
    for family, methods in families.items():
        for method in methods:
            quality = mean(grid.values(method, noise, measure.of))
            forwards, seconds = (mean(grid.values(method, noise, one.of)) for one in (FORWARDS, SECONDS))
            if quality and forwards and seconds:
                found.append(Length(family, method, forwards, seconds, quality))
    return found


def reached(grid: Grid, noise: Noise, families: Families, measure: Measure, cost: CostMeasure) -> list[Reached]:
    """For each family but the first, those with seeds that can be compared."""
    (_, first), *others = families.items()
    ends = _spots(grid, noise, first[-1:], measure, cost)
    found = []
    for family, methods in others:
        curves = _spots(grid, noise, methods, measure, cost)
        at = {seed: crossing(curves[seed], ends[seed][0].quality) for seed in sorted(curves.keys() & ends.keys())}
        if not at:
            continue
        shares = {seed: None if c is None else c / ends[seed][0].cost for seed, c in at.items()}
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
    grid: Grid, noise: Noise, families: Families, family: str, measure: Measure, cost: CostMeasure, share: float
) -> Difference | None:
    """A family's quality at a share of the first one's whole cost, minus the first one's final quality, by seed.

    None unless lengths were run on both sides of that cost, or the longest of all costs less.
    """
    first = next(iter(families.values()))
    ends = _spots(grid, noise, first[-1:], measure, cost)
    curves = _spots(grid, noise, families[family], measure, cost)
    here: dict[int, float] = {}
    for seed in curves.keys() & ends.keys():
        cost_there = share * ends[seed][0].cost
        if curves[seed][0].cost <= cost_there:
            here[seed] = float(
                np.interp(cost_there, [spot.cost for spot in curves[seed]], [spot.quality for spot in curves[seed]])
            )
    final: Seeded = {seed: spots[0].quality for seed, spots in ends.items()}
    return difference(here, final)


def crossing(curve: Sequence[Spot], target: float) -> float | None:
    """The smallest cost at which a curve, by rising cost, has the target's quality; None: never."""
    if curve[0].quality >= target:
        return curve[0].cost
    for before, after in pairwise(curve):
        if after.quality >= target:
            part = (target - before.quality) / (after.quality - before.quality)
            return before.cost + part * (after.cost - before.cost)
    return None


def _spots(
    grid: Grid, noise: Noise, methods: Sequence[str], measure: Measure, cost: CostMeasure
) -> dict[int, list[Spot]]:
    """By seed, by rising cost."""
    found: dict[int, list[Spot]] = {}
    for method in methods:
        for seed, quality in grid.values(method, noise, measure.of).items():
            found.setdefault(seed, []).append(Spot(cost.of(grid.at(method, noise)[seed]), quality))
    return {seed: sorted(spots) for seed, spots in found.items()}
