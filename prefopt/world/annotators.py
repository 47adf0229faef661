"""The people of the world: a majority taste, two minority tastes and careless annotators (prefopt)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefopt.data.ids import row_rng
from prefopt.world.scenes import Scene
from prefopt.world.taste import TASTES, qualities, scene_fidelity, scene_looks, utility
from prefopt.world.vision import parse_prompt

DEFAULT_SHARES: Mapping[str, float] = {"majority": 0.88, "noir": 0.04, "ornate": 0.04, "careless": 0.04}
TEMPERATURE = 0.45
CARELESS_TEMPERATURE = 25.0
TIE_BAND = 0.25
_FIRST_ID = 1001


@dataclass(frozen=True)
class Annotator:
    """One person: id, group, the weights of the five qualities and a Bradley-Terry temperature."""

    user_id: int
    group: str
    weights: tuple[float, ...]
    temperature: float


def population(count: int = 60, seed: int = 0, shares: Mapping[str, float] = DEFAULT_SHARES) -> list[Annotator]:
    """Draw `count` annotators whose groups follow `shares` (rounded, the largest remainder first).

    Raises ValueError when shares name an unknown group or do not sum to 1.
    """
    known = {*TASTES, "careless"}
    if not set(shares) <= known or abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0.0:
        raise ValueError(f"shares must be non-negative, name groups among {sorted(known)} and sum to 1")
    groups = _apportion(count, shares)
    people = []
    for index, group in enumerate(groups):
        rng = row_rng(seed, "world/annotator", index)
        weights = np.array(TASTES.get(group, TASTES["majority"])) + 0.12 * rng.standard_normal(5)
        base = CARELESS_TEMPERATURE if group == "careless" else TEMPERATURE
        people.append(
            Annotator(
                user_id=_FIRST_ID + index,
                group=group,
                weights=tuple(float(weight) for weight in weights),
                temperature=float(base * np.exp(0.2 * rng.standard_normal())),
            )
        )
    return people


def _apportion(count: int, shares: Mapping[str, float]) -> list[str]:
    exact = {group: share * count for group, share in sorted(shares.items())}
    seats = {group: int(value) for group, value in exact.items()}
    by_remainder = sorted(exact, key=lambda group: (seats[group] - exact[group], group))
    for group in by_remainder[: count - sum(seats.values())]:
        seats[group] += 1
    return [group for group in sorted(seats) for _ in range(seats[group])]


def preference(weights: Sequence[float], first: Scene, second: Scene, prompt: str) -> float:
    """Utility of the first scene minus that of the second, for a taste and a prompt."""
    scenes = [first, second]
    asked = parse_prompt(prompt)
    values = utility(qualities(scene_looks(scenes), scene_fidelity(scenes, [asked, asked])), weights)
    return float(values[0] - values[1])


def vote(annotator: Annotator, first: Scene, second: Scene, prompt: str, rng: np.random.Generator) -> float:
    """One vote: 1.0 for the first scene, 0.0 for the second, 0.5 for a tie.

    Bradley-Terry: the first wins with probability sigma(preference / temperature); a tie when the noisy
    difference stays within TIE_BAND.
    """
    noisy = preference(annotator.weights, first, second, prompt) / annotator.temperature + rng.logistic()
    if abs(noisy) < TIE_BAND:
        return 0.5
    return 1.0 if noisy > 0.0 else 0.0
