"""An evaluation's figures by prompt set, by slice and by style, and their form in metrics.json and in the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefopt.config.evaluate import TUNED, EvaluateConfig
from prefopt.evaluation import wording
from prefopt.evaluation.hpsv2 import StyleScores, style_scores
from prefopt.evaluation.results import Comparison, Results, Scores, models_record
from prefopt.evaluation.sets import DrawnSet, SetFigures, set_figures
from prefopt.evaluation.slices import TEST, Slice, make_slices
from prefopt.evaluation.statistics import estimate_record


@dataclass(frozen=True)
class Breakdown:
    """What the figures over all prompts are made of."""

    sets: list[SetFigures] = field(default_factory=list)
    """In the order of evaluate.prompt_sets."""
    slices: list[Slice] = field(default_factory=list)
    """Model by model, reward by reward, set by set, by label."""
    labels_left_out: int = 0
    """Labels without a slice, since their set has too many."""
    styles: list[StyleScores] = field(default_factory=list)
    """HPSv2's aggregation, of `hpdv2` sets."""

    @property
    def origin(self) -> str:
        """What the drawn prompts are, as a noun: `held-out prompt`, or `prompt` where other sets take part."""
        return "held-out prompt" if all(found.prompts.kind == "heldout" for found in self.sets) else "prompt"


def make_breakdown(
    config: EvaluateConfig,
    scores: Scores,
    names: Sequence[str],
    sets: Sequence[DrawnSet],
    in_training: Sequence[int | None],
    models: Sequence[str] = (TUNED,),
) -> Breakdown:
    """Compare models with the base on every set, slice and style. `names` [n] are the prompt ids of all images, in the
    order of scores."""
    slices, left_out = make_slices(config, scores, names, sets, models)
    figures = [
        set_figures(config, scores, names, drawn, models, seen) for drawn, seen in zip(sets, in_training, strict=True)
    ]
    return Breakdown(figures, slices, left_out, style_scores(scores, sets))


def breakdown_metrics(found: Breakdown, tie_rule: str) -> dict[str, Any]:
    """The entries `sets`, `slices` and `hpsv2` of metrics.json; null where there is nothing to tell."""
    return {
        "sets": {figures.prompts.name: _set(figures, tie_rule) for figures in found.sets} or None,
        "slices": {
            "test": TEST,
            "labels_left_out": found.labels_left_out,
            "rows": [_slice(one, tie_rule) for one in found.slices],
        }
        if found.slices
        else None,
        "hpsv2": _styles(found.styles) or None,
    }


def shown_breakdown(found: Breakdown, results: Results, level: float) -> dict[str, Any]:
    """What templates show: tables of sets, slices and styles for every reward, the headline first."""
    notes = [note for figures in found.sets if (note := wording.set_note(figures.prompts, figures.in_training))]
    tables = len(found.sets) > 1 or bool(found.slices or found.styles)
    return {
        "shown": tables or bool(notes),
        "tables": tables,
        "sets": len(found.sets) > 1,
        "notes": notes,
        "labels_left_out": found.labels_left_out,
        "test": TEST,
        "models": list(results.models),
        "rewards": [
            {
                "name": comparison.reward,
                "sets": [
                    _set_row(figures, of_model, comparison.reward)
                    for figures in found.sets
                    for of_model in figures.models.values()
                ],
                "slices": [
                    {"found": one, "verdict": wording.OUTCOMES[one.outcome(level)]}
                    for one in found.slices
                    if one.reward == comparison.reward
                ],
                "styles": _style_rows(found.styles, comparison.reward),
            }
            for comparison in results.comparisons
        ],
    }


def _set(figures: SetFigures, tie_rule: str) -> dict[str, Any]:
    return {
        "kind": figures.prompts.kind,
        "prompts": len(figures.prompts.prompts),
        "skipped": dict(figures.prompts.skipped),
        "repeated": figures.prompts.repeated,
        "in_training": figures.in_training,
        **models_record(figures.models, tie_rule),
    }


def _slice(found: Slice, tie_rule: str) -> dict[str, Any]:
    return {
        "set": found.set,
        "by": found.by,
        "label": found.label,
        "reward": found.reward,
        "model": found.model,
        "prompts": found.prompts,
        **found.record(),
        "win_rate": {**estimate_record(found.wins), "tie_rule": tie_rule},
    }


def _styles(found: Sequence[StyleScores]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for one in found:
        of_model = made.setdefault(one.set, {}).setdefault(one.reward, {})
        of_model[one.model] = {"styles": one.styles, "average": one.average}
    return made


def _set_row(figures: SetFigures, comparisons: Sequence[Comparison], reward: str) -> dict[str, Any]:
    comparison = next(one for one in comparisons if one.reward == reward)
    return {
        "name": figures.prompts.name,
        "prompts": len(figures.prompts.prompts),
        "found": comparison,
        "verdict": wording.short_verdict(comparison),
    }


def _style_rows(found: Sequence[StyleScores], reward: str) -> list[dict[str, Any]]:
    """A row per style and one for the average, with all models' scores, the base's first."""
    rows = []
    for name in dict.fromkeys(one.set for one in found):
        models = [one for one in found if (one.set, one.reward) == (name, reward)]
        rows += [
            {"set": name, "style": style, "scores": [one.styles[style] for one in models]} for style in models[0].styles
        ]
        rows.append({"set": name, "style": "average", "scores": [one.average for one in models]})
    return rows
