"""Reward against distance from the base: what a gain costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate


@dataclass(frozen=True)
class Point:
    """A model: how often it wins, and how far its images are from the base's."""

    name: str
    wins: Estimate
    distance: Estimate


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those that beat the base and that no other model beats at a smaller or equal distance, from the nearest to the
    farthest. The base itself stands at distance 0 and a win rate of one half."""
    ordered = sorted(points, key=lambda point: (point.distance.value, -point.wins.value))
    found: list[Point] = []
    for point in ordered:
        if point.wins.value > (found[-1].wins.value if found else 0.5):
            found.append(point)
    return found
