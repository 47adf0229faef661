"""HPSv2's own aggregation of scores over its benchmark's four styles (arXiv 2306.09341)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prefopt.evaluation.results import Scores
from prefopt.evaluation.sets import DrawnSet
from prefopt.evaluation.statistics import Floats
from prefopt.prompts import STYLES

BLOCK = 80
"""Prompts per block."""


@dataclass(frozen=True)
class StyleScores:
    """One model's scores on a benchmark, under one reward and on its scale."""

    set: str
    reward: str
    model: str
    styles: dict[str, float]
    average: float
    """Over all images."""


def style_value(scores: ArrayLike, block: int = BLOCK) -> float:
    """The mean of the means of blocks of prompts [n], in the file's order; the last block may be shorter.

    Raises ValueError for no scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        raise ValueError("there are no scores to average")
    return float(np.mean([values[start : start + block].mean() for start in range(0, len(values), block)]))


def style_scores(scores: Scores, sets: Sequence[DrawnSet]) -> list[StyleScores]:
    """Every `hpdv2` set under every reward, for every model. A prompt's score is the mean over its samples."""
    return [
        _styles(drawn, reward, model, values)
        for drawn in sets
        if drawn.prompts.kind == "hpdv2"
        for reward, models in scores.items()
        for model, values in models.items()
    ]


def _styles(drawn: DrawnSet, reward: str, model: str, values: Floats) -> StyleScores:
    of_prompt = values[drawn.rows].mean(axis=1)
    style = np.array([row.category for row in drawn.prompts.prompts])
    return StyleScores(
        set=drawn.prompts.name,
        reward=reward,
        model=model,
        styles={name: style_value(of_prompt[style == name]) for name in STYLES if (style == name).any()},
        average=float(of_prompt.mean()),
    )
