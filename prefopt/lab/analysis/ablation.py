"""What each part of a method adds (SmPO-Diffusion, arXiv 2506.02698, its ablation)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid, Measure, Noise
from prefopt.lab.statistics import Difference, corrected, difference, mean


@dataclass(frozen=True)
class Step:
    """A method with one part more than the one before."""

    method: str
    figure: Estimate | None
    added: Difference | None
    """To the method before, paired by seed, p corrected over the steps; None for the first, and where either has no
    cells."""


@dataclass(frozen=True)
class Ablation:
    """All steps at one noise."""

    noise: Noise
    measure: Measure
    steps: list[Step]

    @property
    def whole(self) -> bool:
        """Whether each step could be compared with the one before."""
        return all(step.added for step in self.steps[1:])


def ablations(grid: Grid, names: Sequence[str], measure: Measure) -> list[Ablation]:
    """At each noise at which two neighbouring methods have cells."""
    found = [_ablation(grid, noise, names, measure) for noise in grid.noises]
    return [one for one in found if any(step.added for step in one.steps)]


def _ablation(grid: Grid, noise: Noise, names: Sequence[str], measure: Measure) -> Ablation:
    values = [grid.values(name, noise, measure.of) for name in names]
    added = [difference(now, before) for before, now in pairwise(values)]
    tested = iter(corrected([one for one in added if one]))
    return Ablation(
        noise=noise,
        measure=measure,
        steps=[
            Step(name, mean(found, measure.limits), next(tested) if more else None)
            for name, found, more in zip(names, values, [None, *added], strict=True)
        ],
    )
