"""How u is distributed, and whether it rises with doubt (Adaptive-DPO, arXiv 2503.16921, Figures 2 and 3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Noise
from prefopt.lab.outcome import BINS, Detected
from prefopt.lab.statistics import CORRELATION, SHARE, Seeded, mean, ratio

LEAST = 10
"""Labels of a bin whose share takes part in a rank correlation."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Doubted:
    """One kind of doubtful label, flipped ones or those against the majority, over u."""

    labels: Counts
    """[BINS] of that kind, summed over seeds."""
    shares: list[Estimate | None]
    """[BINS] of a bin's labels, over seeds, each seed weighed by its labels; None for an empty bin."""
    auroc: Estimate | None
    rise: float | None
    """Spearman's correlation of u and share over the bins of all seeds together; None for fewer than three bins."""
    rise_by_seed: Estimate | None
    """The same made for each seed."""
    unranked: tuple[int, ...]
    """Seeds with fewer than three bins to rank, which `rise_by_seed` leaves out."""

    @property
    def without(self) -> str:
        """Those seeds in words; empty for none."""
        plural = "s" if len(self.unranked) > 1 else ""
        return f", without seed{plural} {', '.join(map(str, self.unranked))}" if self.unranked else ""


@dataclass(frozen=True)
class Detection:
    """u of one source at one noise."""

    source: str
    noise: Noise
    methods: tuple[str, ...]
    """Several where u does not depend on the method."""
    seeds: int
    labels: Counts
    """[BINS] summed over seeds."""
    flipped: Doubted | None
    """None where nothing is flipped."""
    minority: Doubted | None
    """None where the majority's true preference is not known, or no label contradicts it."""


def detections(grid: Grid, methods: Sequence[str]) -> list[Detection]:
    """By source, noise and method, those that have a u."""
    sources = sorted({name for seeds in grid.cells.values() for one in seeds.values() for name in one.detected})
    return [found for source in sources for noise in grid.noises for found in _at(grid, methods, source, noise)]


def detected(grid: Grid, method: str, source: str, noise: Noise | None) -> dict[int, Detected]:
    """Of one method, by seed."""
    found = grid.at(method, noise) if noise else {}
    return {seed: one.detected[source] for seed, one in found.items() if source in one.detected}


def _at(grid: Grid, methods: Sequence[str], source: str, noise: Noise) -> list[Detection]:
    alike: list[tuple[list[str], dict[int, Detected]]] = []
    for method in methods:
        seeds = detected(grid, method, source, noise)
        same = next((names for names, other in alike if other == seeds), None)
        if same is not None:
            same.append(method)
        elif seeds:
            alike.append(([method], seeds))
    return [_detection(source, noise, names, seeds) for names, seeds in alike]


def _detection(source: str, noise: Noise, methods: Sequence[str], seeds: Mapping[int, Detected]) -> Detection:
    labels = {seed: np.array(one.labels) for seed, one in seeds.items()}
    flipped = {seed: np.array(one.flipped) for seed, one in seeds.items()}
    minority = {seed: np.array(one.minority) for seed, one in seeds.items() if one.minority is not None}
    return Detection(
        source=source,
        noise=noise,
        methods=tuple(methods),
        seeds=len(seeds),
        labels=sum(labels.values(), np.zeros(BINS, dtype=np.int64)),
        flipped=_doubted(labels, flipped, _auroc(seeds, lambda one: one.auroc_flipped)),
        minority=_doubted(labels, minority, _auroc(seeds, lambda one: one.auroc_minority)),
    )


def _doubted(labels: Mapping[int, Counts], doubtful: Mapping[int, Counts], auroc: Estimate | None) -> Doubted | None:
    known = {seed: labels[seed] for seed in doubtful}
    total = sum(doubtful.values(), np.zeros(BINS, dtype=np.int64))
    if not total.any():
        return None
    rises = {seed: _rise(known[seed], found) for seed, found in doubtful.items()}
    return Doubted(
        labels=total,
        shares=[
            _share(
                {seed: float(found[place]) for seed, found in doubtful.items()},
                {seed: float(found[place]) for seed, found in known.items()},
            )
            for place in range(BINS)
        ],
        auroc=auroc,
        rise=_rise(sum(known.values(), np.zeros(BINS, dtype=np.int64)), total),
        rise_by_seed=mean({seed: rise for seed, rise in rises.items() if rise is not None}, CORRELATION),
        unranked=tuple(seed for seed, rise in sorted(rises.items()) if rise is None),
    )


def _share(part: Seeded, whole: Seeded) -> Estimate | None:
    """Of all seeds' labels; without an interval where seeds differ too much in how many they have."""
    total = sum(whole.values())
    if not total:
        return None
    return ratio(part, whole) or Estimate(sum(part.values()) / total, None, None, len(whole))


def _rise(labels: Counts, doubtful: Counts) -> float | None:
    """Spearman's correlation of the bins' place and share; 0 where all shares are equal."""
    enough = np.flatnonzero(labels >= LEAST)
    if enough.size < 3:
        return None
    shares = doubtful[enough] / labels[enough]
    return float(stats.spearmanr(enough, shares).statistic) if np.ptp(shares) > 0.0 else 0.0


def _auroc(seeds: Mapping[int, Detected], of: Callable[[Detected], float | None]) -> Estimate | None:
    found = {seed: of(one) for seed, one in seeds.items()}
    return mean({seed: value for seed, value in found.items() if value is not None}, SHARE)
