"""Noise that comes from people: how methods serve the groups of annotators that disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import ACCURACY, Grid, Noise
from prefopt.lab.outcome import Outcome
from prefopt.lab.statistics import Difference, difference, mean


@dataclass(frozen=True)
class Served:
    """One method."""

    method: str
    win_rates: list[Estimate | None]
    """By reward."""
    accuracy: Estimate | None
    by_group: list[Estimate | None]
    """Held-out accuracy on each group's own votes."""
    over_reference: list[Difference | None]
    """By group, from the reference method; None for itself."""


@dataclass(frozen=True)
class GroupTable:
    """Methods at one noise."""

    noise: Noise
    rewards: list[str]
    """The headline first."""
    groups: list[str]
    rows: list[Served]


def group_tables(grid: Grid, methods: Sequence[str], reference: str) -> list[GroupTable]:
    """A table for each noise that is no random flip."""
    return [table for noise in grid.unrated if (table := _table(grid, noise, methods, reference)).rows]


def _table(grid: Grid, noise: Noise, methods: Sequence[str], reference: str) -> GroupTable:
    present = [method for method in methods if grid.at(method, noise)]
    outcomes = [one for method in present for one in grid.at(method, noise).values()]
    rewards = list(dict.fromkeys(name for one in outcomes for name in one.win_rates))
    groups = sorted({name for one in outcomes for name in one.accuracy_by_group})
    rows = [
        Served(
            method=method,
            win_rates=[mean(_reward(grid, method, noise, name)) for name in rewards],
            accuracy=mean(grid.values(method, noise, ACCURACY.of)),
            by_group=[mean(_group(grid, method, noise, name)) for name in groups],
            over_reference=[
                None
                if method == reference
                else difference(_group(grid, method, noise, name), _group(grid, reference, noise, name))
                for name in groups
            ],
        )
        for method in present
    ]
    return GroupTable(noise, rewards, groups, rows)


def _reward(grid: Grid, method: str, noise: Noise, name: str) -> dict[int, float]:
    def win_rate(outcome: Outcome) -> float | None:
        return outcome.win_rates.get(name)

    return grid.values(method, noise, win_rate)


def _group(grid: Grid, method: str, noise: Noise, name: str) -> dict[int, float]:
    def accuracy(outcome: Outcome) -> float | None:
        return outcome.accuracy_by_group.get(name)

    return grid.values(method, noise, accuracy)
