"""Rows that may be ranked together, ranked: one table per protocol."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prefopt.config.evaluate import BASE, TUNED
from prefopt.evaluation.pareto import Point
from prefopt.evaluation.protocol import Protocol
from prefopt.evaluation.ranking import Rank
from prefopt.evaluation.significance import corrected, tested
from prefopt.evaluation.statistics import Estimate
from prefopt.leaderboard.records import BaseScore, Features, Figure, ModelScore
from prefopt.leaderboard.runs import Run, Training

_NUMBERED = re.compile(r"(.+?)[-_.](?:seed[-_.=]?)?\d+")


@dataclass(frozen=True)
class Row:
    """A model against the base."""

    name: str
    """The run's for the model it tuned, else run/model."""
    run: str
    model: str
    evaluation: str
    """The key of the evaluation."""
    level: float
    """Of its intervals."""
    rank: Rank
    """On the headline reward, corrected over all rows of the table."""
    scores: dict[str, ModelScore]
    """By reward, the headline first."""
    accuracy: Figure | None
    distance: Figure | None
    within_change: Figure | None
    across_change: Figure | None
    features: Features | None
    training: Training | None
    """Of a model that the run tuned."""

    @property
    def wins(self) -> Estimate:
        """The win rate on the headline reward."""
        return next(iter(self.scores.values())).win_rate.estimate


@dataclass(frozen=True)
class Spread:
    """A figure of several seeds."""

    mean: float
    low: float
    """The smallest."""
    high: float
    """The largest."""

    @staticmethod
    def of(values: Sequence[float | None]) -> "Spread | None":
        """None unless every seed has the figure."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return Spread(float(np.mean(known)), min(known), max(known))


@dataclass(frozen=True)
class Group:
    """Rows that differ in seeds alone."""

    name: str
    members: list[str]
    seeds: list[int | None]
    wins: dict[str, Spread]
    """Win rates by reward, the headline first."""
    accuracy: Spread | None
    distance: Spread | None


@dataclass(frozen=True)
class Table:
    """Models that were compared with one base under one protocol, the best first."""

    runs: list[str]
    """In the order given."""
    protocol: Protocol
    base: str
    """The base model's name."""
    base_scores: dict[str, BaseScore]
    """By reward, the headline first."""
    prompts: int
    """Different prompts."""
    rows: list[Row]
    groups: list[Group]
    """The best mean first."""
    other_base: list[str]
    """Runs whose base scores differ from the first run's, though all conditions agree."""

    @property
    def rewards(self) -> list[str]:
        """The headline first, then the others by name."""
        return list(self.base_scores)

    @property
    def level(self) -> float:
        """Of the verdicts: the strictest of the rows' intervals."""
        return self.levels[-1]

    @property
    def levels(self) -> list[float]:
        """Of the rows' intervals."""
        return sorted({row.level for row in self.rows})

    @property
    def features(self) -> list[Features]:
        """What distances were measured by."""
        return list(dict.fromkeys(row.features for row in self.rows if row.features))

    @property
    def points(self) -> list[Point]:
        """Win rates and distances; empty unless all distances are of the same features."""
        if len(self.features) != 1:
            return []
        return [Point(row.name, row.wins, row.distance.estimate) for row in self.rows if row.distance]


def make_tables(runs: Sequence[Run], *, group: bool = False) -> list[Table]:
    """A table per protocol, in the order in which runs bring them. `group`: sum up seeds of one method."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.protocol.digest, []).append(run)
    return [_table(members, group=group) for members in found.values()]


def _table(runs: Sequence[Run], *, group: bool) -> Table:
    first, rewards = runs[0], _ordered(runs[0].protocol)
    rows = _ranked([row for run in runs for row in _rows(run, rewards)])
    return Table(
        runs=[run.name for run in runs],
        protocol=first.protocol,
        base=first.metrics.base,
        base_scores={reward: first.metrics.base_scores[reward] for reward in rewards},
        prompts=len(set(first.prompts)),
        rows=rows,
        groups=_groups(rows) if group else [],
        other_base=[run.name for run in runs[1:] if not _same_base(first, run)],
    )


def _ordered(protocol: Protocol) -> list[str]:
    others = sorted(protocol.rewards.keys() - {protocol.headline})
    return [protocol.headline, *others]


def _rows(run: Run, rewards: Sequence[str]) -> list[Row]:
    return [_row(run, model, rewards) for model in run.metrics.models]


def _row(run: Run, model: str, rewards: Sequence[str]) -> Row:
    metrics, tuned = run.metrics, model == TUNED and run.training is not None
    distances, diversity = metrics.distance_from_base, metrics.diversity
    distance = distances.models.get(model) if distances else None
    changes = diversity.models.get(model) if diversity else None
    scores = {reward: metrics.models[model][reward] for reward in rewards}
    win_rate = scores[rewards[0]].win_rate.value
    name = run.name if tuned else f"{run.name}/{model}"
    return Row(
        name=name,
        run=run.name,
        model=model,
        evaluation=run.key,
        level=run.level,
        rank=Rank(name, win_rate, **vars(tested(run.scores[model], run.scores[BASE], run.prompts))),
        scores=scores,
        accuracy=metrics.accuracy_heldout if tuned else None,
        distance=distance,
        within_change=changes.within_change if changes else None,
        across_change=changes.across_change if changes else None,
        features=distances.features if distances and distance else None,
        training=run.training if tuned else None,
    )


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """By win rate, equal ones by name; p corrected over all."""
    ranks = corrected([row.rank for row in rows])
    made = [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]
    return sorted(made, key=lambda row: (-row.rank.win_rate, row.name))


def _same_base(first: Run, other: Run) -> bool:
    """Whether the base's images were scored alike, whatever their order."""

    def scores(run: Run) -> list[tuple[str, float]]:
        return sorted(zip(run.prompts, run.scores[BASE].tolist(), strict=True))

    return scores(first) == scores(other)


def _groups(rows: Sequence[Row]) -> list[Group]:
    """Of two and more rows each."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.training and row.training.digest:
            found.setdefault(row.training.digest, []).append(row)
    several = [members for members in found.values() if len(members) > 1]
    names = _labels([min(row.name for row in members) for members in several])
    groups = [_group(name, members) for name, members in zip(names, several, strict=True)]
    return sorted(groups, key=lambda one: (-next(iter(one.wins.values())).mean, one.name))


def _group(name: str, members: Sequence[Row]) -> Group:
    ordered = sorted(members, key=lambda row: row.name)
    return Group(
        name=name,
        members=[row.name for row in ordered],
        seeds=[row.training.seed if row.training else None for row in ordered],
        wins=_win_spreads(ordered),
        accuracy=Spread.of([row.accuracy.value if row.accuracy else None for row in ordered]),
        distance=Spread.of([row.distance.value if row.distance else None for row in ordered])
        if len({row.features for row in ordered}) == 1
        else None,
    )


def _win_spreads(rows: Sequence[Row]) -> dict[str, Spread]:
    found: dict[str, Spread] = {}
    for reward in rows[0].scores:
        spread = Spread.of([row.scores[reward].win_rate.value for row in rows])
        assert spread is not None
        found[reward] = spread
    return found


def group_label(name: str) -> str:
    """A run's name without a trailing -seed3 or -3."""
    found = _NUMBERED.fullmatch(name)
    return found.group(1) if found else name


def _labels(names: Sequence[str]) -> list[str]:
    """Labels of groups; two that would be called the same keep the name of their first run."""
    labels = [group_label(name) for name in names]
    return [label if labels.count(label) == 1 else name for label, name in zip(labels, names, strict=True)]
