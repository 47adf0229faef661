"""Each annotator's shares with intervals, how they spread over annotators, and what stands out about whom."""

from dataclasses import dataclass

import numpy as np

from prefopt.card.people import MEASURES, PeopleTally
from prefopt.card.shards import Floats, Ints
from prefopt.card.shares import Share, share
from prefopt.card.standouts import Standout, halves, standouts
from prefopt.data.ids import digest

LISTED = 1000
"""Annotators that are listed at most: those who stand out, then those who gave most votes."""
_DIGEST = 10
_QUANTILES = {"least": 0.0, "lower_tenth": 0.1, "median": 0.5, "upper_tenth": 0.9, "most": 1.0}


@dataclass(frozen=True)
class Annotator:
    """One annotator with enough votes."""

    name: str
    """The id, or the digest that stands for it."""
    votes: int
    ties: Share
    changed: int
    """Pairs on which this annotator named both winners."""
    shares: dict[str, Share]
    """Per measure."""
    by_time: dict[str, list[Share]]
    """Per measure and time bin."""
    earlier_later: dict[str, tuple[Share, Share]]
    """Per measure, before and after the time that halves this annotator's votes best; empty without times."""
    p: dict[str, float]
    """Of every test, corrected for the number of annotators."""
    stands_out: list[str]
    """In words; empty for most."""


@dataclass(frozen=True)
class People:
    """The annotators with enough votes, and everyone together."""

    listed: list[Annotator]
    counted: int
    """Annotators with enough votes."""
    standing_out: int
    everyone: dict[str, Share]
    """Per measure, over the votes of all, known and not."""
    everyone_by_time: dict[str, list[Share]]
    spread: dict[str, Floats]
    """Per measure, the shares of annotators for whom it is about enough votes."""
    position_known: bool
    """False where votes tell of no side: their order is not known, or all name the image of one side."""

    def quantiles(self, measure: str) -> dict[str, float] | None:
        """How a measure's shares spread over annotators."""
        values = self.spread[measure]
        return {name: float(np.quantile(values, at)) for name, at in _QUANTILES.items()} if values.size else None


def annotator_name(annotator: str, *, shown: bool) -> str:
    """The id itself, or a short digest that stands for it; empty for an anonymous vote."""
    return annotator if shown or not annotator else digest("annotator", annotator)[:_DIGEST]


def describe_people(tally: PeopleTally, *, least: int, shown: bool) -> People:
    """Shares, tests and words. `least`: of how many votes a share must be to count in its spread over annotators."""
    total = tally.everyone.sum(axis=1)
    first = total[MEASURES.index("first")]
    position_known = bool(0 < first[1] < first[0])
    tests = standouts(tally, position_known=position_known)
    out = np.zeros(len(tally.names), dtype=bool)
    for test in tests:
        out |= test.stands_out
    order = sorted(range(len(out)), key=lambda row: (not out[row], -tally.votes[row], tally.names[row]))
    counts = tally.each.sum(axis=2)
    return People(
        listed=[_annotator(tally, row, tests, shown=shown) for row in order[:LISTED]],
        counted=len(out),
        standing_out=int(out.sum()),
        everyone={name: share(total[row, 1], total[row, 0]) for row, name in enumerate(MEASURES)},
        everyone_by_time={name: _by_time(tally.everyone[row]) for row, name in enumerate(MEASURES)},
        spread={name: _spread(counts[:, row], least) for row, name in enumerate(MEASURES)},
        position_known=position_known,
    )


def _annotator(tally: PeopleTally, row: int, tests: list[Standout], *, shown: bool) -> Annotator:
    counts = tally.each[row]
    parts = {name: halves(counts[None, of]) for of, name in enumerate(MEASURES)} if len(tally.bins) else {}
    return Annotator(
        name=annotator_name(tally.names[row], shown=shown),
        votes=int(tally.votes[row]),
        ties=share(tally.ties[row], tally.votes[row]),
        changed=int(tally.changed[row]),
        shares={name: share(*counts[of].sum(axis=0)[::-1]) for of, name in enumerate(MEASURES)},
        by_time={name: _by_time(counts[of]) for of, name in enumerate(MEASURES)},
        earlier_later={
            name: (share(early[1, 0], early[0, 0]), share(late[1, 0], late[0, 0]))
            for name, (early, late) in parts.items()
        },
        p={test.name: float(test.p[row]) for test in tests},
        stands_out=[test.words(row) for test in tests if test.stands_out[row]],
    )


def _by_time(counts: Ints) -> list[Share]:
    """A share for each time bin; none without bins. The last row holds votes without a time."""
    return [share(hits, n) for n, hits in counts[:-1]]


def _spread(counts: Ints, least: int) -> Floats:
    n, hits = counts[counts[:, 0] >= least].T
    return np.sort(hits / n)
