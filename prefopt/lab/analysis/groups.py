"""Noise that comes from people: how methods serve the groups of annotators that disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import ACCURACY, Grid, Noise
from prefopt.lab.statistics import SHARE, Difference, Seeded, corrected, difference, mean


@dataclass(frozen=True)
class Group:
    """Of annotators, by one method."""

    accuracy: Estimate
    """Held out, on the group's own votes."""
    moved: Literal["gains", "loses", ""]
    """From the base's 1/2, where chance is ruled out: p corrected over all methods and groups of the table."""


@dataclass(frozen=True)
class Served:
    """One method."""

    method: str
    win_rates: list[Estimate | None]
    """By reward."""
    scores: list[Estimate | None]
    accuracy: Estimate | None
    by_group: list[Group | None]
    over_reference: list[Difference | None]
    """In accuracy by group, from the reference method, p corrected over the table; None for itself."""
    score_over_reference: list[Difference | None]
    """The same of the score by reward."""


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
    accuracies = {(method, name): _accuracies(grid, method, noise, name) for method in present for name in groups}
    scores = {(method, name): _scores(grid, method, noise, name) for method in present for name in rewards}
    served = _served(accuracies)
    ahead, score_ahead = _over(reference, accuracies), _over(reference, scores)
    rows = [
        Served(
            method=method,
            win_rates=[mean(_win_rates(grid, method, noise, name), SHARE) for name in rewards],
            scores=[mean(scores[method, name]) for name in rewards],
            accuracy=mean(grid.values(method, noise, ACCURACY.of), SHARE),
            by_group=[served.get((method, name)) for name in groups],
            over_reference=[ahead.get((method, name)) for name in groups],
            score_over_reference=[score_ahead.get((method, name)) for name in rewards],
        )
        for method in present
    ]
    return GroupTable(noise, rewards, groups, rows)


def _served(accuracies: Mapping[tuple[str, str], Seeded]) -> dict[tuple[str, str], Group]:
    """By method and group, those with cells."""
    leads = {key: difference(own, dict.fromkeys(own, ACCURACY.untrained)) for key, own in accuracies.items()}
    known = {key: lead for key, lead in leads.items() if lead}
    found = {}
    for key, lead in zip(known, corrected(list(known.values())), strict=True):
        accuracy = mean(accuracies[key], SHARE)
        assert accuracy is not None, "a group with a lead has seeds"
        found[key] = Group(accuracy, _moved(lead))
    return found


def _over(reference: str, figures: Mapping[tuple[str, str], Seeded]) -> dict[tuple[str, str], Difference]:
    """By method and column, from the reference's own figure of the column."""
    found = {
        (method, name): made
        for (method, name), own in figures.items()
        if method != reference and (made := difference(own, figures.get((reference, name), {})))
    }
    return dict(zip(found, corrected(list(found.values())), strict=True))


def _moved(lead: Difference) -> Literal["gains", "loses", ""]:
    if not lead.decided:
        return ""
    return "gains" if lead.estimate.value > 0.0 else "loses"


def _win_rates(grid: Grid, method: str, noise: Noise, reward: str) -> Seeded:
    return grid.values(method, noise, lambda outcome: outcome.win_rates.get(reward))


def _scores(grid: Grid, method: str, noise: Noise, reward: str) -> Seeded:
    return grid.values(method, noise, lambda outcome: outcome.scores.get(reward))


def _accuracies(grid: Grid, method: str, noise: Noise, group: str) -> Seeded:
    return grid.values(method, noise, lambda outcome: outcome.accuracy_by_group.get(group))
