"""Who gains and who loses: win rates by a prompt's category and challenge, corrected for how many are tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from prefopt.config.evaluate import EvaluateConfig
from prefopt.evaluation.results import BASE, TUNED
from prefopt.evaluation.sets import DrawnSet, Scores
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate, win_points

By = Literal["category", "challenge"]
LABELS: tuple[By, ...] = ("category", "challenge")
MOST = 100
"""Slices of one set by one label; of more, those of the most prompts are taken."""
TEST = "exact two-sided sign test over prompts; Holm's correction over all slices of the reward"


@dataclass(frozen=True)
class Slice:
    """Base and tuned model on one reward, over the prompts of a set that share a label."""

    set: str
    by: By
    label: str
    reward: str
    prompts: int
    wins: Estimate
    """The tuned model's win rate."""
    won: int
    """Prompts of which the tuned model wins more images than it loses."""
    lost: int
    p: float
    """Of the sign test that neither model is better."""
    adjusted: float
    """That p after Holm's correction over all slices of the reward."""

    def outcome(self, level: float) -> str:
        """`better`, `worse` or `undecided`: whether the corrected p lies below 1 - level."""
        if self.adjusted >= 1.0 - level:
            return "undecided"
        return "better" if self.won > self.lost else "worse"


def make_slices(
    config: EvaluateConfig, scores: Scores, names: Sequence[str], sets: Sequence[DrawnSet]
) -> tuple[list[Slice], int]:
    """All slices, reward by reward, set by set, by label; and how many labels were left out (see MOST).

    A label takes part if the set has at least two. `names` [n] are the prompt ids of all images.
    """
    groups = [(drawn, by, *_labels(drawn, by)) for drawn in sets for by in LABELS]
    found: list[Slice] = []
    for reward in config.rewards:
        made = [
            _slice(config, scores, names, drawn, by, label, reward)
            for drawn, by, labels, _ in groups
            for label in labels
        ]
        found += [
            Slice(**{**vars(one), "adjusted": adjusted})
            for one, adjusted in zip(made, holm([one.p for one in made]), strict=True)
        ]
    return found, sum(left_out for *_, left_out in groups)


def sign_test(won: int, lost: int) -> float:
    """The two-sided p of so many wins and losses if both are equally likely; 1 without any."""
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p-values whose family-wise error rate is held, in the same order."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(values) else scaled
    return [float(value) for value in adjusted]


def _labels(drawn: DrawnSet, by: By) -> tuple[list[str], int]:
    """The labels of a set in order, and how many were left out."""
    counts = Counter(label for row in drawn.prompts.prompts if (label := getattr(row, by)))
    if len(counts) < 2:
        return [], 0
    largest = sorted(counts, key=lambda label: (-counts[label], label))[:MOST]
    return sorted(largest), len(counts) - len(largest)


def _slice(
    config: EvaluateConfig, scores: Scores, names: Sequence[str], drawn: DrawnSet, by: By, label: str, reward: str
) -> Slice:
    inside = [number for number, row in enumerate(drawn.prompts.prompts) if getattr(row, by) == label]
    part = DrawnSet(drawn.prompts, drawn.rows[inside])
    found, clusters = part.scores({reward: scores[reward]})[reward], part.names(names)
    how = Resampling(config.bootstrap, config.seed)
    won, lost = _decided(found[TUNED], found[BASE], clusters)
    return Slice(
        set=drawn.prompts.name,
        by=by,
        label=label,
        reward=reward,
        prompts=len(inside),
        wins=mean_estimate(win_points(found[TUNED], found[BASE], config.ties), clusters, how, f"wins {reward}"),
        won=won,
        lost=lost,
        p=sign_test(won, lost),
        adjusted=1.0,
    )


def _decided(tuned: Floats, base: Floats, prompts: ArrayLike) -> tuple[int, int]:
    """Different prompts of which more images win than lose, and of which more lose than win."""
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    lead = np.bincount(index, weights=np.sign(tuned - base))
    return int((lead > 0).sum()), int((lead < 0).sum())
