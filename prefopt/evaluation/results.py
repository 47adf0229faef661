"""Figures of an evaluation, and their form in metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefopt.config.evaluate import BASE, TUNED, EvaluateConfig
from prefopt.evaluation.diversity import FeatureFigures, feature_metrics
from prefopt.evaluation.groups import TEST, GroupAccuracy
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.ranking import Rank, ranking_record
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, estimate_record, mean_estimate, win_points

SCHEMA_VERSION = 1
Scores = Mapping[str, Mapping[str, Floats]]
"""Scores by reward and model, [n] in the order of the images."""


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
    model: str = TUNED
    """The tuned model's name."""

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
    models: dict[str, list[Comparison]]
    """Of every model with the base, in the order of evaluate.rewards: the first is the headline. The first model is
    what the report is about."""
    accuracy: Estimate | None
    accuracy_pairs: int
    detections: list[Detection]
    """The metric that training used first."""
    ranking: list[Rank] = field(default_factory=list)
    """Of several models."""
    features: FeatureFigures | None = None
    """Diversity and distance from the base; None where they were not measured."""
    groups: list[GroupAccuracy] = field(default_factory=list)
    """Of several annotator groups."""
    protocol: Mapping[str, Any] | None = None
    """Under what conditions, as `protocol_record` tells them."""

    @property
    def comparisons(self) -> list[Comparison]:
        """Of the model that the report is about."""
        return next(iter(self.models.values()))


def compare(config: EvaluateConfig, scores: Scores, prompts: Sequence[str], model: str = TUNED) -> list[Comparison]:
    """A model with the base, by reward. `prompts` [n] are the prompts of the images."""
    how = Resampling(config.bootstrap, config.seed)
    return [_compare(config, name, scores[name], prompts, how, model) for name in config.rewards]


def _compare(
    config: EvaluateConfig, name: str, scores: Mapping[str, Floats], prompts: Sequence[str], how: Resampling, model: str
) -> Comparison:
    base, tuned = scores[BASE], scores[model]

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
        model=model,
    )


def metrics(results: Results) -> dict[str, Any]:
    """The content of metrics.json but for what `breakdown_metrics` adds. What was not measured is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "base": results.base_name,
        "protocol": results.protocol,
        **models_record(results.models, results.tie_rule),
        "ranking": ranking_record(results.ranking) if results.ranking else None,
        "minority": _minority(results.detections),
        "accuracy_heldout": estimate_record(results.accuracy) if results.accuracy else None,
        "accuracy_by_group": _groups(results.groups) if results.groups else None,
        **feature_metrics(results.features),
    }


def models_record(models: Mapping[str, Sequence[Comparison]], tie_rule: str) -> dict[str, Any]:
    """The entries `models` and `base_scores`, over all prompts or over those of a set."""
    return {
        "models": {
            model: {
                found.reward: {
                    "mean": found.mean[TUNED],
                    "median": found.median[TUNED],
                    "win_rate": {**estimate_record(found.wins), "tie_rule": tie_rule},
                }
                for found in comparisons
            }
            for model, comparisons in models.items()
        },
        "base_scores": {
            found.reward: {"mean": found.mean[BASE], "median": found.median[BASE]}
            for found in next(iter(models.values()))
        },
    }


def _groups(found: Sequence[GroupAccuracy]) -> dict[str, Any]:
    rows = [
        {
            "group": one.group,
            "votes": one.votes,
            "with_majority": one.with_majority,
            "accuracy": estimate_record(one.accuracy),
            **one.record(),
        }
        for one in found
    ]
    return {"test": TEST, "rows": rows}


def _minority(detections: Sequence[Detection]) -> dict[str, Any] | None:
    measured = {found.source: estimate_record(found.auroc) for found in detections if found.auroc}
    if not measured:
        return None
    first = next(iter(measured))
    curve = next(found.roc for found in detections if found.source == first)
    roc = {name: points.tolist() for name, points in curve._asdict().items()} if curve else None
    return {"auroc": measured[first], "source": first, "auroc_by_source": measured, "roc": roc}
