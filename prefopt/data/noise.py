"""Seeded label flips: which votes are flipped is a function of (seed, vote) and, for exact counts, of a threshold."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from prefopt.data.ids import row_uniform

BINS = 4096


def flip_place(seed: int, entry: int, vote_id: str) -> float:
    """A vote's place in [0, 1) in the flipping order of one configured entry."""
    return row_uniform(seed, f"flip {entry}", vote_id)


def gap_flip_probability(gap: float, rate: float, scale: float) -> float:
    """rate * exp(-|gap| / scale): the closer a pair's rewards, the likelier its label is flipped."""
    return rate * math.exp(-abs(gap) / scale)


def histogram(places: Iterable[float]) -> list[int]:
    """Counts of places in BINS equal bins, so that a threshold can be found without holding all places."""
    bins = (np.fromiter(places, dtype=np.float64) * BINS).astype(np.int64)
    return [int(count) for count in np.bincount(bins, minlength=BINS)]


def boundary_bin(counts: np.ndarray, flips: int) -> tuple[int, int]:
    """The bin that holds the last of the `flips` smallest places, and how many of its places are among them."""
    total = np.cumsum(counts)
    bin_ = int(np.searchsorted(total, flips))
    return bin_, flips - int(total[bin_ - 1] if bin_ else 0)


def threshold(boundary_places: Iterable[float], wanted: int) -> float:
    """The largest place that is flipped, from the places of the boundary bin."""
    return sorted(boundary_places)[wanted - 1]


def flips_wanted(counts: Mapping[str, np.ndarray], rates: Mapping[str, float]) -> dict[str, int]:
    """Exactly round(rate * votes) for every stratum, half to even."""
    return {stratum: round(rates[stratum] * int(counts[stratum].sum())) for stratum in counts}
