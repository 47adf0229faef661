"""What tells the methods apart before any result: their settings, what they cost, how far they move the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.grid import Grid
from prefopt.lab.outcome import shared_settings
from prefopt.lab.statistics import mean


@dataclass(frozen=True)
class Facts:
    """Of one method."""

    method: str
    settings: list[str]
    """KEY=VALUE that all its cells have, and not all cells of all methods."""
    forwards: Estimate | None
    """UNet forwards of a cell's score and training on clean labels."""
    distances: list[Estimate | None]
    """By noise, of the tuned model's images from the base's."""


def facts(grid: Grid, methods: Sequence[str]) -> list[Facts]:
    """Of methods that have cells, in their order."""
    common = set(shared_settings(one for seeds in grid.cells.values() for one in seeds.values()))
    found = []
    for method in methods:
        cells = [one for noise in grid.noises for one in grid.at(method, noise).values()]
        if cells:
            found.append(
                Facts(
                    method=method,
                    settings=[setting for setting in shared_settings(cells) if setting not in common],
                    forwards=mean(grid.values(method, grid.clean, lambda outcome: outcome.cost.forwards)),
                    distances=[
                        mean(grid.values(method, noise, lambda outcome: outcome.distance)) for noise in grid.noises
                    ],
                )
            )
    return found
