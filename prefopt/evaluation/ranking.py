"""Several models against one base: who is better, corrected for how many are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefopt.config.evaluate import BASE, EvaluateConfig
from prefopt.evaluation.significance import decided, holm, sign_test
from prefopt.evaluation.statistics import Floats, win_points

TEST = "exact two-sided sign test over prompts; Holm's correction over all models"


@dataclass(frozen=True)
class Rank:
    """A model on the headline reward, against the base."""

    model: str
    win_rate: float
    won: int
    """Prompts of which it wins more images than it loses."""
    lost: int
    p: float
    """Of the sign test that neither is better."""
    adjusted: float
    """That p after Holm's correction over all models."""

    def outcome(self, level: float) -> str:
        """`better`, `worse` or `undecided`: whether the corrected p lies below 1 - level."""
        if self.adjusted >= 1.0 - level:
            return "undecided"
        return "better" if self.won > self.lost else "worse"


def rank_models(
    config: EvaluateConfig, scores: Mapping[str, Floats], prompts: Sequence[str], models: Sequence[str]
) -> list[Rank]:
    """Models by win rate on one reward, the best first; equal ones in the order given.

    `scores` [n] by model, `prompts` [n] the prompt of each image.
    """
    found = [_rank(config, scores[model], scores[BASE], prompts, model) for model in models]
    corrected = holm([one.p for one in found])
    made = [replace(one, adjusted=p) for one, p in zip(found, corrected, strict=True)]
    return sorted(made, key=lambda one: -one.win_rate)


def _rank(config: EvaluateConfig, mine: Floats, base: Floats, prompts: Sequence[str], model: str) -> Rank:
    won, lost = decided(mine, base, prompts)
    points = win_points(mine, base, config.ties)
    return Rank(model, float(points.mean()), won, lost, sign_test(won, lost), 1.0)


def ranking_record(ranking: Sequence[Rank]) -> dict[str, Any]:
    """The entry `ranking` of metrics.json."""
    rows = [
        {
            "model": one.model,
            "win_rate": one.win_rate,
            "prompts_won": one.won,
            "prompts_lost": one.lost,
            "p": one.p,
            "p_holm": one.adjusted,
        }
        for one in ranking
    ]
    return {"test": TEST, "rows": rows}
