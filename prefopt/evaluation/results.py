"""Figures of an evaluation, and their form in metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefopt.config.evaluate import EvaluateConfig
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate, win_points

SCHEMA_VERSION = 1
BASE, TUNED = "base", "tuned"


@dataclass(frozen=True)
class Comparison:
    """Base and tuned model on one reward, over the same prompts and initial noise."""

    reward: str
    wins: Estimate
    """The tuned model's win rate."""
    losses: Estimate
    """The base model's, under the same tie rule."""
    ties: float
    """Share of exactly equal scores."""
    mean: dict[str, float]
    median: dict[str, float]
    gain: Estimate
    """Mean of the tuned model's score minus the base's."""

    @property
    def outcome(self) -> str:
        """`better`, `worse` or `undecided`: whether an interval lies above one half."""
        if self.wins.low is not None and self.wins.low > 0.5:
            return "better"
        if self.losses.low is not None and self.losses.low > 0.5:
            return "worse"
        return "undecided"


@dataclass(frozen=True)
class Results:
    """All measured figures."""

    base_name: str
    tie_rule: str
    comparisons: list[Comparison]
    """In the order of evaluate.rewards: the first is the headline."""
    accuracy: Estimate | None
    accuracy_pairs: int
    detections: list[Detection]
    """The metric that training used first."""


def compare(
    config: EvaluateConfig, scores: Mapping[str, Mapping[str, Floats]], prompts: Sequence[str]
) -> list[Comparison]:
    """Comparisons from scores[reward][model] [n] and the prompt of each of the n images."""
    how = Resampling(config.bootstrap, config.seed)
    return [_compare(config, name, scores[name], prompts, how) for name in config.rewards]


def _compare(
    config: EvaluateConfig, name: str, scores: Mapping[str, Floats], prompts: Sequence[str], how: Resampling
) -> Comparison:
    base, tuned = scores[BASE], scores[TUNED]

    def estimate(values: Floats, what: str) -> Estimate:
        return mean_estimate(values, prompts, how, f"{what} {name}")

    return Comparison(
        reward=name,
        wins=estimate(win_points(tuned, base, config.ties), "wins"),
        losses=estimate(win_points(base, tuned, config.ties), "losses"),
        ties=float(np.mean(tuned == base)),
        mean={BASE: float(np.mean(base)), TUNED: float(np.mean(tuned))},
        median={BASE: float(np.median(base)), TUNED: float(np.median(tuned))},
        gain=estimate(tuned - base, "gain"),
    )


def metrics(results: Results) -> dict[str, Any]:
    """The content of metrics.json but for what `breakdown_metrics` adds. What was not measured is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "base": results.base_name,
        **model_record(results.comparisons, results.tie_rule),
        "minority": _minority(results.detections),
        "accuracy_heldout": estimate_record(results.accuracy) if results.accuracy else None,
        "diversity": None,
        "distance_from_base": None,
    }


def model_record(comparisons: Sequence[Comparison], tie_rule: str) -> dict[str, Any]:
    """The entries `models` and `base_scores`, over all prompts or over those of a set."""
    return {
        "models": {
            TUNED: {
                found.reward: {
                    "mean": found.mean[TUNED],
                    "median": found.median[TUNED],
                    "win_rate": {**estimate_record(found.wins), "tie_rule": tie_rule},
                }
                for found in comparisons
            }
        },
        "base_scores": {
            found.reward: {"mean": found.mean[BASE], "median": found.median[BASE]} for found in comparisons
        },
    }


def _minority(detections: Sequence[Detection]) -> dict[str, Any] | None:
    measured = {found.source: estimate_record(found.auroc) for found in detections if found.auroc}
    if not measured:
        return None
    first = next(iter(measured))
    return {"auroc": measured[first], "source": first, "auroc_by_source": measured}


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """A figure with its interval and its number of observations."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
