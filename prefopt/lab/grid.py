"""Outcomes of a grid by method, noise and seed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isclose
from typing import NamedTuple

from prefopt.config.lab_page import AnalysisConfig
from prefopt.errors import InputError
from prefopt.lab.outcome import Outcome
from prefopt.lab.statistics import SHARE, UNLIMITED, Limits

Figure = Callable[[Outcome], float | None]


class Noise(NamedTuple):
    """A kind of label noise."""

    name: str
    rate: float | None
    """Share of labels flipped at random, 0 for clean labels; None for another kind."""

    @property
    def title(self) -> str:
        """The name with the rate, where it has one that the name does not tell: `symmetric (20%)`."""
        rate = f"{100.0 * (self.rate or 0.0):.3g}"
        told = rate in re.findall(r"[0-9.]+", self.name)
        return self.name if not self.rate or told else f"{self.name} ({rate}%)"


class Place(NamedTuple):
    """Of a cell in the grid."""

    method: str
    noise: str
    seed: int


class Measure(NamedTuple):
    """A figure of quality."""

    slug: str
    name: str
    of: Figure
    untrained: float
    """Of the base."""
    limits: Limits
    """Between which it lies."""

    @property
    def gains(self) -> Limits:
        """Limits of what it can gain."""
        low, high = self.limits
        return low - self.untrained, high - self.untrained

    def gain(self, outcome: Outcome) -> float | None:
        """Over the base."""
        value = self.of(outcome)
        return None if value is None else value - self.untrained


SCORE = Measure("score", "score", lambda outcome: outcome.score, 0.0, UNLIMITED)
WIN_RATE = Measure("win-rate", "win rate", lambda outcome: outcome.win_rate, 0.5, SHARE)
ACCURACY = Measure("accuracy", "held-out accuracy", lambda outcome: outcome.accuracy, 0.5, SHARE)
MEASURES = (SCORE, WIN_RATE, ACCURACY)
"""The one that methods are tuned by first."""


@dataclass(frozen=True)
class Grid:
    """The cells of a grid, tuning left out."""

    cells: dict[tuple[str, str], dict[int, Outcome]]
    """By method and noise, then by seed, both in order."""
    noises: tuple[Noise, ...]
    """Those with a rate first, from clean labels upwards."""
    methods: tuple[str, ...]
    """By name."""
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Grid":
        """Raises InputError where two outcomes stand for one cell, or two noises for one rate."""
        every = list(outcomes)
        _refuse_repeated(every)
        kept = sorted(
            (one for one in every if one.candidate is None), key=lambda one: (one.method, one.noise, one.seed)
        )
        cells: dict[tuple[str, str], dict[int, Outcome]] = {}
        for one in kept:
            cells.setdefault((one.method, one.noise), {})[one.seed] = one
        return cls(
            cells=cells,
            noises=_noises(kept),
            methods=tuple(sorted({one.method for one in kept})),
            seeds=tuple(sorted({one.seed for one in kept})),
        )

    @property
    def clean(self) -> Noise | None:
        """The noise without any."""
        return self.flips(0.0)

    @property
    def rated(self) -> tuple[Noise, ...]:
        """Clean labels and random flips."""
        return tuple(noise for noise in self.noises if noise.rate is not None)

    @property
    def unrated(self) -> tuple[Noise, ...]:
        """All other kinds."""
        return tuple(noise for noise in self.noises if noise.rate is None)

    def flips(self, rate: float) -> Noise | None:
        """The noise of a rate."""
        rated = ((noise, noise.rate) for noise in self.noises if noise.rate is not None)
        return next((noise for noise, own in rated if isclose(own, rate, abs_tol=1e-9)), None)

    def at(self, method: str, noise: Noise) -> dict[int, Outcome]:
        """By seed; empty where there are none."""
        return self.cells.get((method, noise.name), {})

    def values(self, method: str, noise: Noise | None, figure: Figure) -> dict[int, float]:
        """A figure by seed, without seeds that lack it."""
        found = {seed: figure(one) for seed, one in self.at(method, noise).items()} if noise else {}
        return {seed: value for seed, value in found.items() if value is not None}

    def shown(self, asked: AnalysisConfig) -> list[str]:
        """Methods of the tables of noise, as the config asks for them, those with outcomes."""
        main = dict.fromkeys((asked.reference, asked.adaptive, *asked.baselines))
        others = (name for name in self.methods if name not in asked.parts)
        return [
            name for name in asked.methods or (*main, *(n for n in others if n not in main)) if name in self.methods
        ]

    def missing(self, planned: Iterable[Place]) -> list[Place]:
        """Those without an outcome."""
        return [place for place in planned if place.seed not in self.cells.get((place.method, place.noise), {})]


def _refuse_repeated(outcomes: Iterable[Outcome]) -> None:
    seen: dict[tuple[str, str, int, int | None], str] = {}
    for one in outcomes:
        cell = (one.method, one.noise, one.seed, one.candidate)
        if cell in seen:
            tried = "" if one.candidate is None else f", candidate {one.candidate}"
            raise InputError(
                f"Method {one.method}, noise {one.noise}, seed {one.seed}{tried} stands twice in the outcomes, with"
                f" keys {seen[cell]} and {one.key}: they are of two grids. Remove the older one's line."
            )
        seen[cell] = one.key


def _noises(outcomes: Iterable[Outcome]) -> tuple[Noise, ...]:
    noises = sorted(
        {Noise(one.noise, one.rate) for one in outcomes}, key=lambda one: (one.rate is None, one.rate or 0.0, one.name)
    )
    for first, second in pairwise(noises):
        if first.rate is not None and first.rate == second.rate:
            raise InputError(
                f"The noises {first.name} and {second.name} both flip a share of {first.rate:g}: the analyses need one"
                " noise per rate. Leave one of them out of the laboratory's config."
            )
    names = [noise.name for noise in noises]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"The noise {name} has several rates in the outcomes: they are of two grids. Remove the older lines."
            )
    return tuple(noises)
