"""What of a method's gain is left when labels are flipped (Adaptive-DPO, arXiv 2503.16921, Tables 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.outcome import Outcome
from prefopt.lab.statistics import Difference, difference, mean, ratio

UNTRAINED = 0.5
"""The win rate and the held-out accuracy of the base."""

NO_CLEAN, UNCLEAR = "no clean cells", "clean gain not clear"


@dataclass(frozen=True)
class Gain:
    """Of one method at one flip rate, over the base."""

    noise: Noise
    gain: Estimate | None
    """The measure minus 1/2."""
    kept: Estimate | None
    """As a share of the method's own gain on clean labels, paired by seed."""
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

    def gain(outcome: Outcome) -> float | None:
        value = measure.of(outcome)
        return None if value is None else value - UNTRAINED

    return ratio(grid.values(method, noise, gain), grid.values(method, grid.clean, gain))


def _line(grid: Grid, method: str, reference: str, measure: Measure) -> GainLine:
    clean = _minus_untrained(mean(grid.values(method, grid.clean, measure.of)))
    found = [
        Gain(
            noise=noise,
            gain=_minus_untrained(mean(grid.values(method, noise, measure.of))),
            kept=kept_at(grid, method, noise, measure),
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


def _minus_untrained(found: Estimate | None) -> Estimate | None:
    if found is None:
        return None
    low, high = (None if end is None else end - UNTRAINED for end in (found.low, found.high))
    return Estimate(found.value - UNTRAINED, low, high, found.n)
