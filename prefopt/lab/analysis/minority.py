"""Whether random flips make as many minority labels as they should: p + r - 2 p r at rate r, from p clean ones.

A flip turns a label of the majority into one of the minority, and the other way round.
"""

from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Noise
from prefopt.lab.outcome import Outcome
from prefopt.lab.statistics import SHARE, Difference, difference, mean


@dataclass(frozen=True)
class MinorityShare:
    """At one flip rate."""

    noise: Noise
    measured: Estimate
    expected: Estimate | None
    """From the seed's own clean share."""
    off: Difference | None
    """Measured minus expected, paired by seed."""
    largest: float | None
    """The largest such difference of a seed, without its sign."""


def minority_shares(grid: Grid, method: str) -> list[MinorityShare]:
    """By rate, on the training labels of one method, which stand for all that do not relabel."""
    clean = grid.values(method, grid.clean, _share)
    found = []
    for noise in grid.rated:
        measured = grid.values(method, noise, _share)
        if (share := mean(measured)) is None:
            continue
        expected = {seed: p + noise.rate - 2.0 * p * noise.rate for seed, p in clean.items() if noise.rate is not None}
        gaps = [abs(measured[seed] - expected[seed]) for seed in measured.keys() & expected.keys()]
        off = difference(measured, expected)
        found.append(MinorityShare(noise, share, mean(expected), off, max(gaps, default=None)))
    return found


def knowing(grid: Grid, method: str) -> Estimate | None:
    """AUROC for flipped labels of who knows which labels contradict the majority and nothing more: 1 - p, since p of
    the flipped ones do not, and p of the others do."""
    clean = grid.values(method, grid.clean, _share)
    return mean({seed: 1.0 - p for seed, p in clean.items()}, SHARE)


def _share(outcome: Outcome) -> float | None:
    return None if outcome.minority is None or not outcome.labels else outcome.minority / outcome.labels
