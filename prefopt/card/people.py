"""What annotators do, counted shard by shard: with whom they agree, which image they favour, and when."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefopt.card.shards import Bools, Floats, Ints, Shard, exact
from prefopt.card.times import TimeBins, moments

MEASURES = ("others", "panel", "first")
"""Shares of votes that count and are no ties: those that name the winner of the other annotators' majority, or of the
panel's, among those where there is one; and those for the image shown first, where the source tells which it was."""


class PeopleTally:
    """Counts for everyone together, anonymous votes included, and for each of some annotators."""

    def __init__(self, names: Sequence[str], bins: TimeBins) -> None:
        self.names, self.bins = list(names), bins
        stretches = len(bins) + 1
        self.everyone = np.zeros((len(MEASURES), stretches, 2), dtype=np.int64)
        self.each = np.zeros((len(names), len(MEASURES), stretches, 2), dtype=np.int64)
        """[annotators, measures, time bins and votes without a time, (of how many, share's part)]"""
        self.votes = np.zeros(len(names), dtype=np.int64)
        self.ties = np.zeros(len(names), dtype=np.int64)
        self.changed = np.zeros(len(names), dtype=np.int64)
        """Pairs on which one named both winners."""

    def add(self, shard: Shard) -> None:
        """Count the votes of a shard, all of a pair's votes lie in it."""
        who = shard.who(self.names)
        self.votes += np.bincount(who[who >= 0], minlength=len(self.names))
        self.ties += np.bincount(who[(who >= 0) & (shard.side == 0)], minlength=len(self.names))
        self.changed += np.bincount(changed_minds(who, shard)[0], minlength=len(self.names))
        at = self.bins.place(moments(shard.votes["time"].to_pylist()) if len(self.bins) else np.empty(len(who)))
        for row, (judged, hit) in enumerate(self._measures(shard)):
            for part, chosen in enumerate((judged, judged & hit)):
                self.everyone[row, :, part] += np.bincount(at[chosen], minlength=self.everyone.shape[1])
                mine = chosen & (who >= 0)
                np.add.at(self.each[:, row, :, part], (who[mine], at[mine]), 1)

    def _measures(self, shard: Shard) -> list[tuple[Bools, Bools]]:
        """Per measure: which votes it is about, and which of them are part of the share."""
        side, counts = shard.side, shard.latest & (shard.side != 0)
        others = np.sign(shard.per_pair(np.where(counts, side, 0))[shard.pair] - side)
        panel = shard.panel.majority[shard.pair] if shard.panel else np.zeros(len(side), dtype=np.int64)
        first = _first_side(shard)
        return [(counts & (target != 0), target == side) for target in (others, panel, first)]


def _first_side(shard: Shard) -> Ints:
    """[votes] 1 where image_0 was shown first, -1 where image_1, 0 where that is not known."""
    first = shard.votes["shown_first"].cast(pa.float64()).to_numpy()
    return np.where(np.isnan(first), 0, 1 - 2 * np.nan_to_num(first)).astype(np.int64)


def changed_minds(who: Ints, shard: Shard) -> tuple[Ints, Ints]:
    """Annotator and pair, once for each annotator whose votes on a pair name both winners.

    `who` [votes] is a number for each annotator, -1 for those that are left out.
    """
    decided = np.flatnonzero((shard.side != 0) & (who >= 0))
    order = decided[np.lexsort((shard.side[decided], shard.pair[decided], who[decided]))]
    both = (np.diff(who[order]) == 0) & (np.diff(shard.pair[order]) == 0) & (np.diff(shard.side[order]) != 0)
    return who[order][1:][both], shard.pair[order][1:][both]


def decided_sides(shard: Shard) -> tuple[Ints, Ints]:
    """[pairs] how many of the votes that count name image_0, and image_1; as delivered."""
    wins, losses = (shard.per_pair(shard.latest & (shard.side == side)) for side in (1, -1))
    return wins, losses


class AgreementTally:
    """How often two people who judge one pair name the same winner: the mean over pairs, each counted once."""

    def __init__(self) -> None:
        self.pairs, self.total, self.squares = 0, 0.0, 0.0
        self.split = 0
        """Pairs on which the votes that count name both winners."""

    def add(self, shard: Shard) -> None:
        """Count the pairs of a shard that two or more votes decide."""
        agreeing = self.of(shard)
        self.pairs += len(agreeing)
        self.split += int((agreeing < 1.0).sum())
        self.total += float(exact(agreeing).sum())
        self.squares += float(exact(np.square(agreeing)).sum())

    @staticmethod
    def of(shard: Shard) -> Floats:
        """The share of agreeing pairs of votes, for each pair that has two votes."""
        wins, losses = (votes.astype(np.float64) for votes in decided_sides(shard))
        votes = wins + losses
        several = votes > 1
        alike = (wins * (wins - 1) + losses * (losses - 1))[several]
        return np.asarray(alike / (votes * (votes - 1))[several], dtype=np.float64)
