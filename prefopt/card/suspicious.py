"""The pairs whose labels deserve a look: their labels disagree with each other or with the panel."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefopt.card.groups import label_u
from prefopt.card.people import changed_minds
from prefopt.card.shards import Floats, Ints, Shard

UNANIMOUS, CHANGED = 0.5, 0.25
"""What is added, beside the share of the votes that are in the minority, to the mean u of a pair's labels: where the
whole panel prefers the image that most votes reject; where an annotator named both images."""
VOTES_SHOWN = 8
_BINS = 1000


@dataclass(frozen=True)
class Judgement:
    """One vote on a listed pair."""

    annotator: str
    """The id."""
    side: int
    """As training sees it: 1 for image_0, -1 for image_1, 0 for a tie."""
    counts: bool
    flipped: bool


@dataclass(frozen=True)
class Suspect:
    """A pair with a reason to look at it."""

    pair: dict[str, Any]
    """A row of PAIRS."""
    cluster: str
    judgements: list[Judgement]
    """At most VOTES_SHOWN."""
    votes: int
    """All that were given."""
    wins: tuple[int, int]
    """Votes that count for image_0 and for image_1, as training sees them."""
    ties: int
    u: float | None
    """The mean over its labels; None without a panel."""
    panel: tuple[int, int, int]
    """How many of the panel prefer image_0, and image_1; and how many judged."""
    changed: int
    """Annotators who named both images."""
    flipped: int
    """Votes that count and were flipped on purpose."""
    suspicion: float


class SuspectSearch:
    """Keeps the most suspicious pairs, and how u spreads over all labels."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found = 0
        """Pairs with any reason."""
        self.suspects: list[Suspect] = []
        """The most suspicious so far, in order."""
        self.histogram = np.zeros(_BINS, dtype=np.int64)
        """Labels by u, in equal bins of [0, 1]."""

    def add(self, shard: Shard, clusters: list[str], cluster: Ints) -> None:
        """Look at the pairs of a shard; `cluster` [pairs] points into `clusters`."""
        u = label_u(shard)
        if u is not None:
            known = np.clip(u[np.isfinite(u)], 0.0, 1.0)
            self.histogram += np.histogram(known, _BINS, (0.0, 1.0))[0]
        evidence = _Evidence.of(shard, u)
        rows = np.flatnonzero(evidence.reason)
        self.found += len(rows)
        ids = shard.pairs["pair_id"].take(rows).to_pylist()
        best = sorted(zip(-np.round(evidence.suspicion[rows], 12), ids, rows, strict=True))[: self._most]
        chosen = [evidence.suspect(int(row), clusters[cluster[row]]) for *_, row in best]
        ranked = sorted([*self.suspects, *chosen], key=lambda one: (-round(one.suspicion, 12), one.pair["pair_id"]))
        self.suspects = ranked[: self._most]

    def share_below(self, u: float) -> float | None:
        """The share of all labels whose u is lower, to a thousandth of u's range; None without a panel."""
        total = self.histogram.sum()
        return float(self.histogram[: int(u * _BINS)].sum() / total) if total else None


@dataclass(frozen=True)
class _Evidence:
    """What speaks against the labels of each pair of a shard."""

    shard: Shard
    wins: Ints
    """[2, pairs]"""
    u: Floats | None
    panel: Ints
    """[3, pairs]"""
    changed: Ints
    suspicion: Floats
    reason: np.ndarray

    @classmethod
    def of(cls, shard: Shard, u_of_label: Floats | None) -> "_Evidence":
        pairs = shard.pairs.num_rows
        wins = np.stack([shard.per_pair(shard.latest & (shard.seen_side == side)) for side in (1, -1)])
        total = np.maximum(wins.sum(axis=0), 1)
        split = wins.min(axis=0) / total
        people = [name for name in shard.annotators.unique().to_pylist() if name]
        changed = np.bincount(changed_minds(shard.who(people), shard)[1], minlength=pairs)
        panel, opposed, unanimous = np.zeros((3, pairs), dtype=np.int64), np.zeros(pairs, bool), np.zeros(pairs, bool)
        u = None
        if shard.panel and u_of_label is not None:
            chosen = np.sign(wins[0] - wins[1])
            panel = np.vstack([shard.panel.sides, shard.panel.members])
            opposed = (chosen != 0) & (shard.panel.majority == -chosen)
            unanimous = opposed & (shard.panel.sides.max(axis=0) == shard.panel.members)
            known = np.nan_to_num(u_of_label)
            u = np.bincount(shard.pair, weights=known, minlength=pairs) / total
        suspicion = UNANIMOUS * unanimous + split + CHANGED * (changed > 0) + (0.0 if u is None else u)
        return cls(shard, wins, u, panel, changed, suspicion, opposed | (split > 0) | (changed > 0))

    def suspect(self, row: int, cluster: str) -> Suspect:
        shard = self.shard
        votes = np.flatnonzero(shard.pair == row)
        given = shard.annotators.take(votes[:VOTES_SHOWN]).to_pylist()
        counts = shard.latest[votes]
        return Suspect(
            pair=shard.pairs.slice(row, 1).to_pylist()[0],
            cluster=cluster,
            judgements=[
                Judgement(name, int(shard.seen_side[vote]), bool(shard.latest[vote]), bool(shard.flipped[vote]))
                for name, vote in zip(given, votes[:VOTES_SHOWN], strict=True)
            ],
            votes=len(votes),
            wins=(int(self.wins[0, row]), int(self.wins[1, row])),
            ties=int((counts & (shard.seen_side[votes] == 0)).sum()),
            u=None if self.u is None else float(self.u[row]),
            panel=(int(self.panel[0, row]), int(self.panel[1, row]), int(self.panel[2, row])),
            changed=int(self.changed[row]),
            flipped=int((counts & shard.flipped[votes]).sum()),
            suspicion=float(self.suspicion[row]),
        )
