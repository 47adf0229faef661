"""Several models against one base: who is better, corrected for how many are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefopt.config.evaluate import BASE, EvaluateConfig
from prefopt.evaluation.significance import SignTested, corrected, tested
from prefopt.evaluation.statistics import Floats, win_points

TEST = "exact two-sided sign test over prompts; Holm's correction over all models"


@dataclass(frozen=True)
class Rank(SignTested):
    """A model on the headline reward, against the base."""

    model: str
    win_rate: float


def rank_models(
    config: EvaluateConfig, scores: Mapping[str, Floats], prompts: Sequence[str], models: Sequence[str]
) -> list[Rank]:
    """Models by win rate on one reward, the best first; equal ones in the order given.

    `scores` [n] by model, `prompts` [n] the prompt of each image.
    """
    found = [_rank(config, scores[model], scores[BASE], prompts, model) for model in models]
    return sorted(corrected(found), key=lambda one: -one.win_rate)


def _rank(config: EvaluateConfig, mine: Floats, base: Floats, prompts: Sequence[str], model: str) -> Rank:
    points = win_points(mine, base, config.ties)
    return Rank(model, float(points.mean()), **vars(tested(mine, base, prompts)))


def ranking_record(ranking: Sequence[Rank]) -> dict[str, Any]:
    """The entry `ranking` of metrics.json."""
    rows = [{"model": one.model, "win_rate": one.win_rate, **one.record()} for one in ranking]
    return {"test": TEST, "rows": rows}
