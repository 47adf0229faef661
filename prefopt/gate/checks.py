"""The gate's questions, each answered from figures of champion and challenger on the same prompts or pairs.

Shapes: n images or (pair, draw) rows, in one order for both models; `prompts` [n] names the cluster of each.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from prefopt.config.gate import GateConfig
from prefopt.evaluation.accuracy import accuracy_points
from prefopt.evaluation.significance import decided
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, TieRule, mean_estimate, win_points

Answer = Literal["passed", "failed", "not_judged"]


class Check(BaseModel):
    """One question and its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    """What was asked: win_rate, slice, accuracy, group, distance, diversity."""
    of: str
    """Of what: a reward, a slice's label, `new` or `known` pairs, a group, image features."""
    answer: Answer
    value: float | None
    low: float | None = None
    high: float | None = None
    bound: float
    """`value`, or for the win rate `low`, must not lie on the wrong side of it."""
    prompts: int
    """How many the figure is made of."""
    p: float | None = None
    """Of the exact one-sided test, where one was made."""
    level: float | None = None
    """That p must not exceed."""


def win_rate_check(
    reward: str,
    mine: Floats,
    theirs: Floats,
    prompts: Sequence[str],
    config: GateConfig,
    how: Resampling,
    ties: TieRule,
    level: float,
) -> Check:
    """Does the challenger win on more prompts than the bar says? Passed if the exact one-sided binomial test over the
    prompts that are no tie rejects `at most the bar` at `level`, and the interval of the win rate lies above the bar.
    """
    won, lost = decided(mine, theirs, prompts)
    p = one_sided(won, lost, config.win_rate)
    found = mean_estimate(win_points(mine, theirs, ties), prompts, how, f"gate wins {reward}")
    passed = p <= level and found.low is not None and found.low > config.win_rate
    return _check(
        "win_rate", reward, found, config.win_rate, len(set(prompts)), "passed" if passed else "failed", p, level
    )


def one_sided(won: int, lost: int, bar: float) -> float:
    """The p of so many wins and losses if a win has at most the probability `bar`; 1 without any."""
    return float(stats.binomtest(won, won + lost, bar, alternative="greater").pvalue) if won + lost else 1.0


def slice_check(
    label: str,
    mine: Floats,
    theirs: Floats,
    prompts: Sequence[str],
    config: GateConfig,
    how: Resampling,
    ties: TieRule,
) -> Check:
    """Does the win rate in a slice stay within its tolerance of one half?"""
    found = mean_estimate(win_points(mine, theirs, ties), prompts, how, f"gate slice {label}")
    bound, number = 0.5 - config.slice_tolerance, len(set(prompts))
    return _check("slice", label, found, bound, number, _answer(found.value >= bound, number, config))


def accuracy_check(
    name: Literal["accuracy", "group"],
    of: str,
    mine: Floats,
    theirs: Floats,
    prompts: Sequence[str],
    config: GateConfig,
    how: Resampling,
) -> Check:
    """Does the implicit accuracy stay within its tolerance of the champion's? `mine` and `theirs` are error gaps z,
    positive where a model agrees with the label; the value is the difference of the two accuracies."""
    gained = accuracy_points(mine) - accuracy_points(theirs)
    found = mean_estimate(gained, prompts, how, f"gate {name} {of}")
    bound, number = -config.accuracy_tolerance, len(set(prompts))
    return _check(name, of, found, bound, number, _answer(found.value >= bound, number, config))


def spread_checks(
    features: str,
    diversity: Mapping[str, float],
    distance: float,
    config: GateConfig,
    prompts: int,
    base: str,
    challenger: str,
) -> list[Check]:
    """Do distance from the base and what is left of its diversity stay within their bounds? `diversity` across prompts
    by model. Without diversity of the base there is no scale, and nothing is judged."""
    scale = diversity[base]
    if scale <= 0.0:
        return []
    shares = {"distance": distance / scale, "diversity": diversity[challenger] / scale}
    within = {
        "distance": shares["distance"] <= config.distance,
        "diversity": shares["diversity"] >= config.diversity,
    }
    return [
        Check(
            name=name,
            of=features,
            answer="passed" if within[name] else "failed",
            value=value,
            bound=getattr(config, name),
            prompts=prompts,
        )
        for name, value in shares.items()
    ]


def _answer(within: bool, prompts: int, config: GateConfig) -> Answer:
    if prompts < config.slice_prompts:
        return "not_judged"
    return "passed" if within else "failed"


def _check(
    name: str,
    of: str,
    found: Estimate,
    bound: float,
    prompts: int,
    answer: Answer,
    p: float | None = None,
    level: float | None = None,
) -> Check:
    return Check(
        name=name,
        of=of,
        answer=answer,
        value=found.value,
        low=found.low,
        high=found.high,
        bound=bound,
        prompts=prompts,
        p=p,
        level=level,
    )


def agreement(gaps: Mapping[str, Floats], pairs: Sequence[str], for_winner: Sequence[bool]) -> Floats:
    """Gaps z of pairs, turned to what each row's label prefers, [rows x draws]."""
    turned = [gaps[pair] if wins else -gaps[pair] for pair, wins in zip(pairs, for_winner, strict=True)]
    return np.concatenate(turned)
