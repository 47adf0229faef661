"""Who gains and who loses: win rates by a prompt's category and challenge, corrected for how many are tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from prefopt.config.evaluate import BASE, EvaluateConfig
from prefopt.evaluation.results import Scores
from prefopt.evaluation.sets import DrawnSet
from prefopt.evaluation.significance import SignTested, corrected, tested
from prefopt.evaluation.statistics import Estimate, Resampling, mean_estimate, win_points

By = Literal["category", "challenge"]
LABELS: tuple[By, ...] = ("category", "challenge")
MOST = 100
"""Slices of one set by one label; of more, those of the most prompts are taken."""
TEST = "exact two-sided sign test over prompts; Holm's correction over all slices of a model on the reward"


@dataclass(frozen=True)
class Slice(SignTested):
    """Base and tuned model on one reward, over the prompts of a set that share a label."""

    set: str
    by: By
    label: str
    reward: str
    model: str
    prompts: int
    wins: Estimate
    """The tuned model's win rate."""


def make_slices(
    config: EvaluateConfig, scores: Scores, names: Sequence[str], sets: Sequence[DrawnSet], models: Sequence[str]
) -> tuple[list[Slice], int]:
    """All slices, model by model, reward by reward, set by set, by label; and how many labels were left out (MOST).

    A label takes part if the set has at least two. `names` [n] are the prompt ids of all images.
    """
    groups = [(drawn, by, *_labels(drawn, by)) for drawn in sets for by in LABELS]
    found: list[Slice] = []
    for model, reward in product(models, config.rewards):
        made = [
            _slice(config, scores, names, drawn, by, label, reward, model)
            for drawn, by, labels, _ in groups
            for label in labels
        ]
        found += corrected(made)
    return found, sum(left_out for *_, left_out in groups)


def _labels(drawn: DrawnSet, by: By) -> tuple[list[str], int]:
    """The labels of a set in order, and how many were left out."""
    counts = Counter(label for row in drawn.prompts.prompts if (label := getattr(row, by)))
    if len(counts) < 2:
        return [], 0
    largest = sorted(counts, key=lambda label: (-counts[label], label))[:MOST]
    return sorted(largest), len(counts) - len(largest)


def _slice(
    config: EvaluateConfig,
    scores: Scores,
    names: Sequence[str],
    drawn: DrawnSet,
    by: By,
    label: str,
    reward: str,
    model: str,
) -> Slice:
    inside = [number for number, row in enumerate(drawn.prompts.prompts) if getattr(row, by) == label]
    part = DrawnSet(drawn.prompts, drawn.rows[inside])
    found, clusters = part.scores({reward: scores[reward]})[reward], part.names(names)
    how = Resampling(config.bootstrap, config.seed)
    return Slice(
        set=drawn.prompts.name,
        by=by,
        label=label,
        reward=reward,
        model=model,
        prompts=len(inside),
        wins=mean_estimate(win_points(found[model], found[BASE], config.ties), clusters, how, f"wins {reward}"),
        **vars(tested(found[model], found[BASE], clusters)),
    )
