"""What votes are like by group of prompts: pairs, ties, disagreement, and the minority metric."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefopt.card.people import decided_sides
from prefopt.card.shards import Floats, Ints, Shard, exact
from prefopt.card.shares import Mean, Share, mean_of_sums, share

_PAIRS, _VOTES, _TIES, _JUDGED, _SPLIT, _LABELS, _U, _U_SQUARES = range(8)


@dataclass(frozen=True)
class Group:
    """Figures of a group of prompts."""

    name: str
    pairs: int
    votes: int
    ties: Share
    """Of all votes."""
    disagreement: Share
    """Pairs whose votes name both winners, of those that two or more votes decide."""
    u: Mean
    """Of the labels that training sees; nothing without a panel."""


class GroupTally:
    """Sums for each of a growing number of groups."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._sums = np.zeros((0, 8))

    def add(self, shard: Shard, names: list[str], group: Ints) -> None:
        """Count the pairs of a shard; `group` [pairs] points into `names`."""
        rows = np.array([self._names.setdefault(name, len(self._names)) for name in names], dtype=np.int64)
        self._sums = np.pad(self._sums, ((0, len(self._names) - len(self._sums)), (0, 0)))
        of_pair = rows[group]
        of_vote = of_pair[shard.pair]
        wins, losses = decided_sides(shard)
        self._add(_PAIRS, of_pair)
        self._add(_VOTES, of_vote)
        self._add(_TIES, of_vote, shard.side == 0)
        self._add(_JUDGED, of_pair, wins + losses > 1)
        self._add(_SPLIT, of_pair, (wins > 0) & (losses > 0))
        u = label_u(shard)
        if u is not None:
            known = np.isfinite(u)
            self._add(_LABELS, of_vote, known)
            self._add(_U, of_vote, exact(np.where(known, u, 0.0)))
            self._add(_U_SQUARES, of_vote, exact(np.where(known, np.square(u), 0.0)))

    def _add(self, column: int, rows: Ints, weights: NDArray[np.generic] | None = None) -> None:
        self._sums[:, column] += np.bincount(rows, weights=weights, minlength=len(self._sums))

    def groups(self) -> list[Group]:
        """All groups with pairs, the largest first."""
        made = [_group(name, self._sums[row]) for name, row in self._names.items() if self._sums[row, _PAIRS]]
        return sorted(made, key=lambda group: (-group.pairs, group.name))


def label_u(shard: Shard) -> Floats | None:
    """[votes] the minority metric of the labels that count and are no ties, NaN for others; None without a panel."""
    if shard.panel is None:
        return None
    u, stability = shard.panel.u[shard.pair], shard.panel.stability[shard.pair]
    of_label = np.where(shard.seen_side > 0, u, np.maximum(stability - u, 0.0))
    return np.where(shard.latest & (shard.seen_side != 0), of_label, np.nan)


def _group(name: str, sums: Floats) -> Group:
    return Group(
        name=name,
        pairs=int(sums[_PAIRS]),
        votes=int(sums[_VOTES]),
        ties=share(sums[_TIES], sums[_VOTES]),
        disagreement=share(sums[_SPLIT], sums[_JUDGED]),
        u=mean_of_sums(sums[_LABELS], sums[_U], sums[_U_SQUARES]),
    )
