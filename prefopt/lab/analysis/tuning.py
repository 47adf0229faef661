"""Which settings each method was given, and that no method was given more tries than another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.outcome import Outcome, shared_settings
from prefopt.lab.statistics import mean


@dataclass(frozen=True)
class Candidate:
    """A setting that was tried."""

    number: int
    settings: list[str]
    """KEY=VALUE that not all candidates of the method share."""
    score: Estimate
    """Over the base on the headline reward and the validation split, over the seeds of tuning: what candidates are
    chosen by."""
    win_rate: Estimate
    accuracy: Estimate | None


@dataclass(frozen=True)
class Tuned:
    """A method's candidates in the order of their numbers."""

    method: str
    noise: str
    candidates: list[Candidate]
    chosen: int | None
    """Number of the candidate that the grid's cells have; None while the method is being tuned."""


def tunings(outcomes: Iterable[Outcome], chosen: Mapping[str, int]) -> list[Tuned]:
    """By method and noise, from the tuning cells among the outcomes; `chosen`: the candidate of each method that is
    tuned (prefopt.lab.cells.chosen_candidates)."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for one in sorted((one for one in outcomes if one.candidate is not None), key=lambda one: one.seed):
        found.setdefault((one.method, one.noise), []).append(one)
    return [_tuned(method, noise, tried, chosen.get(method)) for (method, noise), tried in sorted(found.items())]


def equally_tuned(found: Iterable[Tuned]) -> bool:
    """Whether all methods had equally many candidates, each over equally many seeds."""
    return len({tuple(one.score.n for one in tuned.candidates) for tuned in found}) <= 1


def _tuned(method: str, noise: str, tried: list[Outcome], chosen: int | None) -> Tuned:
    numbers = sorted({one.candidate for one in tried if one.candidate is not None})
    by_number = {number: {one.seed: one for one in tried if one.candidate == number} for number in numbers}
    shared = set.intersection(*(set(shared_settings(by_number[number].values())) for number in numbers))
    return Tuned(method, noise, [_candidate(number, seeds, shared) for number, seeds in by_number.items()], chosen)


def _candidate(number: int, seeds: dict[int, Outcome], shared: set[str]) -> Candidate:
    score = mean({seed: one.score for seed, one in seeds.items()})
    win_rate = mean({seed: one.win_rate for seed, one in seeds.items()})
    assert score is not None
    assert win_rate is not None
    accuracy = mean({seed: one.accuracy for seed, one in seeds.items() if one.accuracy is not None})
    own = [one for one in shared_settings(seeds.values()) if one not in shared]
    return Candidate(number, own, score, win_rate, accuracy)
