"""What of a method's gain is left when labels are flipped (Adaptive-DPO, arXiv 2503.16921, Tables 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.statistics import Difference, difference, mean, ratio

NO_CLEAN, UNCLEAR = "no clean cells", "clean gain not clear"


@dataclass(frozen=True)
class Gain:
    """Of one method at one flip rate, over the base."""

    noise: Noise
    gain: Estimate | None
    """The measure minus that of the base."""
    kept: Estimate | None
    """As a share of the method's own gain on clean labels, paired by seed."""
    of_reference: Estimate | None
    """As a share of the reference method's gain on clean labels, paired by seed."""
    over_reference: Difference | None
    """From the reference method at the same rate; None for itself."""


@dataclass(frozen=True)
class GainLine:
    """A method over flip rates."""

    method: str
    gains: list[Gain]
    """By rate, clean labels first."""
    untold: str
    """Why no share of the clean gain is told; empty where it is."""


def gain_lines(grid: Grid, methods: Sequence[str], reference: str, measure: Measure) -> list[GainLine]:
    """A line for each method that has the measure at some rate."""
    lines = [_line(grid, method, reference, measure) for method in methods]
    return [line for line in lines if any(found.gain for found in line.gains)]


def kept_at(grid: Grid, method: str, noise: Noise | None, measure: Measure) -> Estimate | None:
    """The share of its clean gain that a method keeps; None where it has no clear clean gain, or no cells."""
    return _share(grid, method, noise, method, measure)


def _share(grid: Grid, method: str, noise: Noise | None, whole: str, measure: Measure) -> Estimate | None:
    """Of the clean gain of `whole`."""
    return ratio(grid.values(method, noise, measure.gain), grid.values(whole, grid.clean, measure.gain))


def _line(grid: Grid, method: str, reference: str, measure: Measure) -> GainLine:
    clean = mean(grid.values(method, grid.clean, measure.gain))
    found = [
        Gain(
            noise=noise,
            gain=mean(grid.values(method, noise, measure.gain), measure.gains),
            kept=kept_at(grid, method, noise, measure),
            of_reference=_share(grid, method, noise, reference, measure),
            over_reference=None
            if method == reference
            else difference(grid.values(method, noise, measure.of), grid.values(reference, noise, measure.of)),
        )
        for noise in grid.rated
    ]
    return GainLine(method, found, _untold(clean))


def _untold(clean: Estimate | None) -> str:
    if clean is None:
        return NO_CLEAN
    low = clean.value if clean.low is None else clean.low
    return "" if low > 0.0 else UNCLEAR
