"""Figures of human votes: win rates with two-way intervals, agreement between annotators, agreement with oneself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from prefopt.evaluation.statistics import Estimate, Floats, Resampling

_MEMORY_CELLS = 4_000_000


@dataclass(frozen=True)
class Votes:
    """Points [n] of votes, and the prompt [n] and annotator [n] of each, as numbers from 0 without gaps."""

    points: Floats
    prompts: NDArray[np.intp]
    annotators: NDArray[np.intp]

    @classmethod
    def of(cls, points: Sequence[float], prompts: Sequence[str], annotators: Sequence[str]) -> "Votes":
        """Votes whose prompts and annotators have names."""
        _, prompt = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
        _, annotator = np.unique(np.asarray(annotators, dtype=str), return_inverse=True)
        return cls(np.asarray(points, dtype=np.float64), prompt, annotator)


@dataclass(frozen=True)
class Agreement:
    """How far annotators who saw the same pairs agree."""

    alpha: float | None
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives. None where all votes are the same choice."""
    observed: float
    """Share of agreeing pairs of votes, every pair of images weighed by its number of votes."""
    units: int
    """Pairs of images that at least two annotators saw."""
    votes: int


def crossed_estimate(votes: Votes, how: Resampling, name: str) -> Estimate:
    """The mean of points with a percentile interval of the two-way ("pigeonhole") bootstrap.

    Prompts and annotators are drawn with replacement, each on their own; a vote weighs the product of how often its
    prompt and its annotator were drawn (Owen 2007, arXiv 0712.1111: slightly conservative). A kind of cluster with
    one member alone is kept as it is; with one prompt and one annotator there is no interval. The same seed, name,
    prompts and annotators give the same draws, whatever the points. Raises ValueError for no votes.
    """
    if not votes.points.size:
        raise ValueError("there are no votes to average")
    value, shape = float(votes.points.mean()), (int(votes.prompts.max()) + 1, int(votes.annotators.max()) + 1)
    if shape == (1, 1):
        return Estimate(value, None, None, votes.points.size)
    rng, drawn, start = how.rng(name), np.empty(how.bootstrap.resamples), 0
    places = (votes.annotators, votes.prompts)
    points = sparse.csr_array((votes.points, places), shape=shape[::-1])
    counts = sparse.csr_array((np.ones_like(votes.points), places), shape=shape[::-1])
    step = max(1, _MEMORY_CELLS // sum(shape))
    while start < len(drawn):
        size = min(step, len(drawn) - start)
        prompt, annotator = _draws(shape[0], size, rng), _draws(shape[1], size, rng)
        total = (annotator * (counts @ prompt)).sum(axis=0)
        won = (annotator * (points @ prompt)).sum(axis=0)
        drawn[start : start + size] = np.divide(won, total, out=np.full(size, np.nan), where=total > 0.0)
        start += size
    low, high = np.nanquantile(drawn, how.ends())
    return Estimate(value, float(low), float(high), votes.points.size)


def _draws(clusters: int, resamples: int, rng: np.random.Generator) -> Floats:
    """[clusters, resamples]: how often each cluster was drawn."""
    cells = rng.integers(clusters, size=(resamples, clusters)) + clusters * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * clusters)
    return counts.reshape(resamples, clusters).T.astype(np.float64)


def agreement(units: Sequence[str], choices: Sequence[str]) -> Agreement | None:
    """Krippendorff's alpha for choices without order, from votes [n] on units [n]; None if no unit has two votes.

    With the coincidences o_ck = sum over units of (ordered pairs of votes c, k) / (votes on the unit - 1), their
    margins n_c and their total n: alpha = 1 - (n - 1) sum_{c != k} o_ck / sum_{c != k} n_c n_k (Krippendorff,
    "Computing Krippendorff's alpha-reliability", 2011). Units with one vote are left out.
    """
    _, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    _, choice = np.unique(np.asarray(choices, dtype=str), return_inverse=True)
    if not len(unit):
        return None
    table = np.zeros((int(unit.max()) + 1, int(choice.max()) + 1))
    np.add.at(table, (unit, choice), 1.0)
    table = table[table.sum(axis=1) >= 2]
    if not len(table):
        return None
    votes = table.sum(axis=1, keepdims=True)
    margins, total = table.sum(axis=0), float(table.sum())
    disagreeing = float((table * (votes - table) / (votes - 1.0)).sum())
    chance = float((margins * (total - margins)).sum())
    alpha = 1.0 - (total - 1.0) * disagreeing / chance if chance else None
    return Agreement(alpha, 1.0 - disagreeing / total, len(table), int(total))
