"""Outcomes of a laboratory that never ran, with effects that are known."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from prefopt.evaluation.statistics import auroc
from prefopt.lab.outcome import BINS, Cost, Detected, Outcome
from prefopt.stages.minority import OFFLINE, ONLINE

CLEAN, FLIPS, TASTES = "clean", {0.1: "flips-10", 0.2: "flips-20", 0.3: "flips-30"}, "tastes"
NOISES: dict[str, float | None] = {CLEAN: 0.0, **{name: rate for rate, name in FLIPS.items()}, TASTES: None}
SEEDS = range(5)
CLEAN_MINORITY, LABELS = 0.15, 1000

Effect = Callable[[str, str], float]
"""Of a method at a noise: the mean gain over the base."""

GAINS = {"dpo": 0.30, "adaptive_dpo": 0.32, "majority_vote": 0.25, "filter_minority": 0.27, "flip_minority": 0.26}
LOST = {"dpo": 1.6, "adaptive_dpo": 0.1, "majority_vote": 0.3, "filter_minority": 0.35, "flip_minority": 0.3}
"""Of the clean gain, for each unit of flip rate."""
SETTINGS = ["inject.flips=[{kind: symmetric, rate: 0.2}]", "train.objective={name: adaptive_dpo, beta: 2000}"]


def usual(method: str, noise: str) -> float:
    """Adaptive-DPO keeps what it gains, DPO does not."""
    rate = NOISES[noise]
    return GAINS.get(method, 0.28) * (1.0 - LOST.get(method, 0.5) * (0.15 if rate is None else rate))


def outcome(method: str, noise: str, seed: int, **given: object) -> Outcome:
    """A cell; `given` replaces its fields."""
    rate = NOISES.get(noise)
    flipped = round((rate or 0.0) * LABELS)
    fields: dict[str, object] = {
        "key": f"{method}-{noise}-{seed}",
        "method": method,
        "noise": noise,
        "rate": rate,
        "seed": seed,
        "candidate": None,
        "settings": [f"seed={seed}", *SETTINGS],
        "cpu": "avx512",
        "accuracy": 0.6,
        "accuracy_by_group": {},
        "win_rates": {"world/true": 0.8, "world/style": 0.7},
        "scores": {"world/true": 0.6, "world/style": 0.05},
        "distance": 0.0123,
        "diversity": None,
        "flipped": flipped,
        "minority": None if rate is None else minority(rate),
        "labels": LABELS,
        "detected": {},
        "cost": cost(1000.0),
    }
    return Outcome.model_validate(fields | given)


def minority(rate: float, clean: float = CLEAN_MINORITY) -> int:
    """Of LABELS, at a flip rate."""
    return round((clean + rate - 2.0 * clean * rate) * LABELS)


def cost(forwards: float) -> Cost:
    """A third of the forwards in the score stage."""
    return Cost(
        score_forwards=forwards / 3.0,
        train_forwards=2.0 * forwards / 3.0,
        score_seconds=forwards / 100.0,
        train_seconds=forwards / 40.0,
    )


def drawn(
    effect: Effect = usual,
    *,
    methods: Sequence[str] = tuple(GAINS),
    noises: Iterable[str] = tuple(NOISES),
    seeds: Iterable[int] = SEEDS,
    shared: float = 0.02,
    own: float = 0.004,
    entropy: int = 0,
) -> list[Outcome]:
    """A grid: `shared` is what a seed does to all cells alike, `own` what it does to one, as standard deviations."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([entropy, seed])
        luck = rng.normal(0.0, shared)
        for noise in noises:
            for method in methods:
                gain = effect(method, noise) + luck
                win, accuracy, style = gain + rng.normal(0.0, own, size=3)
                found.append(
                    outcome(
                        method,
                        noise,
                        seed,
                        win_rates={"world/true": 0.5 + win, "world/style": 0.5 + 0.6 * style},
                        scores={"world/true": 2.0 * win, "world/style": 0.2 * style},
                        accuracy=0.5 + 0.5 * accuracy,
                        accuracy_by_group={"modern": 0.5 + 0.5 * accuracy, "classic": 0.48 - 0.05 * accuracy},
                        detected=_detected(method, NOISES[noise], rng),
                    )
                )
    return found


def spread(rng: np.random.Generator, rate: float, power: float = 4.0) -> Detected:
    """u of LABELS labels, those of a flipped share near 1 and the others near 0."""
    flipped = round(rate * LABELS)
    low, high = rng.beta(1.0, power, LABELS - flipped), rng.beta(power, 1.0, flipped)
    counts, hits = (np.histogram(u, BINS, (0.0, 1.0))[0] for u in (np.r_[low, high], high))
    found = auroc(np.r_[low, high], np.arange(LABELS) >= LABELS - flipped) if flipped else None
    return Detected(
        labels=counts.tolist(), flipped=hits.tolist(), minority=None, auroc_flipped=found, auroc_minority=None
    )


@functools.cache
def _panel(rate: float) -> Detected:
    """What does not depend on the seed or the method."""
    return spread(np.random.default_rng(round(100 * rate)), rate, 3.0)


def _detected(method: str, rate: float | None, rng: np.random.Generator) -> Mapping[str, Detected]:
    if rate is None:
        return {}
    found = {OFFLINE: _panel(rate)}
    return found | {ONLINE: spread(rng, rate)} if method == "adaptive_dpo" else found
