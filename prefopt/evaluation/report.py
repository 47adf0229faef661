"""The report: one page that stands alone, and its short form in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import pyarrow as pa

from prefopt import __version__
from prefopt.card.counts import Counts
from prefopt.config import RunConfig
from prefopt.data.manifest import Manifest
from prefopt.data.schema import SOURCES
from prefopt.evaluation import groups, wording
from prefopt.evaluation.breakdown import Breakdown, shown_breakdown
from prefopt.evaluation.charts import forest_chart, histogram_chart, pareto_chart, reliability_chart, roc_chart
from prefopt.evaluation.lineage import environments, shown_config, source_rows, stage_rows
from prefopt.evaluation.pareto import Point
from prefopt.evaluation.ranking import TEST, Rank
from prefopt.evaluation.results import Comparison, Results
from prefopt.evaluation.showcase import Changed, Shown
from prefopt.evaluation.training import course, training_panels
from prefopt.objectives.titles import TITLES
from prefopt.page.environment import page_environment
from prefopt.scoring.reliability import Reliability


@dataclass(frozen=True)
class RunPart:
    """What a report shows of the run that tuned the model."""

    card: Counts
    steps: Sequence[Mapping[str, Any]]
    """The lines of steps.jsonl."""
    verdicts: Sequence[Mapping[str, Any]]
    """The lines of health.jsonl."""
    reliability: Reliability | None
    """Of alpha on the validation split; None without an alpha."""
    manifests: Mapping[str, Manifest]
    """Of the stages before this one, in order."""
    sources: pa.Table = field(default_factory=SOURCES.empty_table)
    """The files that ingest read."""
    key: str = ""
    """Of the evaluate stage."""


@dataclass(frozen=True)
class ReportInputs:
    """All that a report shows."""

    config: RunConfig
    results: Results
    prompts: int
    showcase: Sequence[Shown]
    run: RunPart | None
    """None where models that no run of this directory tuned are compared."""
    breakdown: Breakdown = field(default_factory=Breakdown)
    gained: Sequence[Changed] = ()
    """Prompts with the largest gain of the headline reward, the largest first."""
    lost: Sequence[Changed] = ()
    """Prompts with the largest loss, the largest first."""
    weights: Sequence[tuple[str, str, str]] = ()
    """Of every model that is compared without a run: its name, where it comes from, and its digest."""


def render_html(inputs: ReportInputs) -> str:
    """The page: one script of its own, nothing loaded from anywhere, the same bytes for the same inputs."""
    return _environment().get_template("report.html.j2").render(_values(inputs), **_figures(inputs))


def render_markdown(inputs: ReportInputs) -> str:
    """A short summary."""
    return _environment().get_template("report.md.j2").render(_values(inputs))


def _environment() -> jinja2.Environment:
    return page_environment("prefopt.evaluation", "prefopt.card")


def _values(inputs: ReportInputs) -> dict[str, Any]:
    config, results = inputs.config, inputs.results
    level = config.evaluate.bootstrap.level
    return {
        **(_run_values(inputs.run, config, results) if inputs.run else {"run": None}),
        "version": __version__,
        "config": config,
        "results": results,
        "prompts": inputs.prompts,
        "level": f"{100.0 * level:g}%",
        "drawing": wording.drawing(config.evaluate),
        "protocol": wording.protocol_sentence(config.evaluate),
        "title": wording.title(config, results, tuned_here=inputs.run is not None),
        "model": wording.model_name(config),
        "headline": wording.headline(results, inputs.prompts, level, inputs.breakdown.origin),
        "side_effects": wording.side_effects(results.comparisons),
        "ranking_sentence": wording.ranking_sentence(results.ranking, level),
        "caution": wording.caution(config) if inputs.run else "",
        "rows": [_row(found, config, inputs.run) for found in results.comparisons],
        "models": [_model(rank, results, level) for rank in results.ranking],
        "ranking_test": TEST,
        "names": [wording.called(name) for name in results.models],
        "origins": wording.origins([found.prompts for found in inputs.breakdown.sets], config.evaluate.split),
        "breakdown": shown_breakdown(inputs.breakdown, results, level),
        "weights": inputs.weights,
    }


def _run_values(run: RunPart, config: RunConfig, results: Results) -> dict[str, Any]:
    name, arxiv = TITLES[config.train.objective.name]
    return {
        "run": run,
        "card": run.card,
        "objective": name,
        "arxiv": arxiv,
        "method": wording.METHODS[config.train.method],
        "accuracy_sentence": wording.accuracy_sentence(results, config),
        "group_test": groups.TEST,
        "group_outcomes": wording.GROUP_OUTCOMES,
        "course": course(run.steps, run.verdicts),
        "reliability": run.reliability,
        "alpha_rewards": ", ".join(config.score.alpha.members()) if config.score.alpha else "",
        "stages": stage_rows(run.manifests),
        "sources": source_rows(run.sources),
        "detected": next((found for found in results.detections if found.auroc), None),
    }


def _model(rank: Rank, results: Results, level: float) -> dict[str, Any]:
    """A row of the table of models."""
    return {"rank": rank, "found": results.models[rank.model], "verdict": wording.OUTCOMES[rank.outcome(level)]}


def _row(found: Comparison, config: RunConfig, run: RunPart | None) -> dict[str, Any]:
    if found.reward == config.evaluate.rewards[0]:
        role = "headline"
    elif run is None:
        role = "not known"
    else:
        role = "used in training" if found.reward in wording.training_rewards(config) else "held out"
    return {"found": found, "role": role, "verdict": wording.short_verdict(found)}


def _figures(inputs: ReportInputs) -> dict[str, Any]:
    return {
        **(_run_figures(inputs.run, inputs.config, inputs.results) if inputs.run else {}),
        "shown_config": shown_config(inputs.config, tuned_here=inputs.run is not None),
        "pareto": pareto_chart(_points(inputs.results)) if inputs.results.ranking and inputs.results.features else None,
        "forest": forest_chart(inputs.results.comparisons, wording.called(inputs.results.comparisons[0].model)),
        "showcase": inputs.showcase,
        "gained": inputs.gained,
        "lost": inputs.lost,
    }


def _points(results: Results) -> list[Point]:
    """Every compared model's win rate on the headline reward, and its distance from the base."""
    assert results.features is not None
    distances = results.features.distance_from_base
    return [Point(name, found[0].wins, distances[name]) for name, found in results.models.items()]


def _run_figures(run: RunPart, config: RunConfig, results: Results) -> dict[str, Any]:
    return {
        "libraries": environments(run.manifests),
        "detections": [
            {
                "found": found,
                "histogram": histogram_chart(found),
                "roc": roc_chart(found) if found.roc is not None else None,
            }
            for found in results.detections
        ],
        "reliability_chart": reliability_chart(run.reliability) if run.reliability else None,
        "panels": training_panels(run.steps, run.verdicts, config.train.guard.budget),
    }
