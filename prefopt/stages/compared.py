"""What evaluate and compare share: models draw prompt sets, rewards score the images, each model meets the base."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.evaluate import BASE
from prefopt.data.ids import prompt_id
from prefopt.data.manifest import Rows
from prefopt.distributed.evaluate import PROMPT_ROWS, ComparedModel, EvaluateUnits, EvaluationJob, image_units
from prefopt.distributed.units import Unit, run_units
from prefopt.evaluation.breakdown import Breakdown, breakdown_metrics, make_breakdown
from prefopt.evaluation.diversity import FeatureFigures, feature_figures
from prefopt.evaluation.groups import GroupAccuracy
from prefopt.evaluation.lineage import display_name
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.protocol import protocol_of, protocol_record
from prefopt.evaluation.ranking import Rank, rank_models
from prefopt.evaluation.report import ReportInputs, RunPart, render_html, render_markdown
from prefopt.evaluation.results import Comparison, Results, compare, metrics
from prefopt.evaluation.sets import SetFigures, drawn_sets
from prefopt.evaluation.showcase import Changed, Shown, prompt_gains, read_showcase
from prefopt.evaluation.statistics import Estimate, Floats, Resampling
from prefopt.evaluation.units import unit_files
from prefopt.features import embedder_spec
from prefopt.models.sources import pipeline_digest
from prefopt.prompts import PromptList, drawn_prompts
from prefopt.rewards import reward_spec, reward_versions
from prefopt.stages.base import StageContext, StageResult

PROMPTS, METRICS, REPORT, SUMMARY = "prompts-00000.parquet", "metrics.json", "report.html", "report.md"


@dataclass(frozen=True)
class Drawn:
    """Images and scores of an evaluation, all written."""

    context: StageContext
    sets: list[PromptList]
    prompts: list[str]
    """Different prompts of all sets."""
    models: list[str]
    """The base first."""
    files: list[str]
    names: list[str]
    """The prompt id of every image."""
    scores: dict[str, dict[str, Floats]]
    """By reward and model, in that order."""

    @property
    def compared(self) -> list[str]:
        """All models but the base."""
        return self.models[1:]

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.models) * len(self.names)

    def results(
        self,
        *,
        accuracy: Estimate | None = None,
        accuracy_pairs: int = 0,
        detections: Sequence[Detection] = (),
        groups: Sequence[GroupAccuracy] = (),
    ) -> Results:
        """All figures: those of the images, and what only a run has."""
        config = self.context.config
        return Results(
            base_name=display_name(config.model.path),
            tie_rule=config.evaluate.ties,
            models=self.comparisons(),
            accuracy=accuracy,
            accuracy_pairs=accuracy_pairs,
            detections=list(detections),
            ranking=self.ranking(),
            features=self.features(),
            groups=list(groups),
            protocol=self.protocol(),
        )

    def comparisons(self) -> dict[str, list[Comparison]]:
        """Of every model with the base."""
        config = self.context.config.evaluate
        return {model: compare(config, self.scores, self.names, model) for model in self.compared}

    def breakdown(self, in_training: Sequence[int | None]) -> Breakdown:
        """Figures by set, slice and style; `in_training` as `make_breakdown` takes it."""
        config = self.context.config.evaluate
        drawn = drawn_sets(self.sets, self.prompts, config.samples_per_prompt)
        return make_breakdown(config, self.scores, self.names, drawn, in_training, self.compared)

    def ranking(self) -> list[Rank]:
        """Models on the headline reward, where there are several."""
        config = self.context.config.evaluate
        if len(self.compared) < 2:
            return []
        return rank_models(config, self.scores[config.rewards[0]], self.names, self.compared)

    def features(self) -> FeatureFigures | None:
        """Diversity and distance from the base, by the configured image features."""
        spec, config = embedder_spec(self.context.config), self.context.config.evaluate
        if spec is None:
            return None
        found = {}
        for model in self.models:
            rows = _read_units(self.context, "features", model, self.prompts, ["feature"])["feature"].combine_chunks()
            found[model] = rows.flatten().to_numpy().reshape(len(self.prompts), config.samples_per_prompt, -1)
        how = Resampling(config.bootstrap, config.seed)
        return feature_figures(spec.name, spec.version, found, self.prompts, how)

    def protocol(self) -> dict[str, Any]:
        """Under what conditions the models are compared."""
        config = self.context.config
        found = reward_versions(config.evaluate.rewards, config)
        protocol = protocol_of(config.evaluate, pipeline_digest(config.model), self.sets, found)
        return protocol_record(protocol, config.evaluate.bootstrap.level)

    def showcase(self) -> tuple[list[Shown], list[Changed], list[Changed]]:
        """The first prompts, and those on which the first model gains most, and loses most."""
        config = self.context.config.evaluate
        headline = self.scores[config.rewards[0]]
        gains = prompt_gains(headline[self.compared[0]] - headline[BASE], self.names, self.prompts)
        return read_showcase(self.context.output, self.prompts, gains, config, self.models)


def draw(context: StageContext, sets: list[PromptList], models: Sequence[ComparedModel], more: Sequence[Unit]) -> Drawn:
    """Do all image units, and `more`, in one pool of actors; write prompts-, images- and scores-*.parquet."""
    prompts = drawn_prompts(sets)
    context.output.write_table(PROMPTS, prompt_table(sets))
    evaluate, names = context.config.evaluate, [model.name for model in models]
    job = EvaluationJob(
        config=context.config,
        models=tuple(models),
        rewards=tuple(reward_spec(name, context.config) for name in evaluate.rewards),
        features=embedder_spec(context.config),
        output=context.output,
        store=context.store,
    )
    receipts = run_units(
        [*image_units(names, prompts, evaluate.unit_prompts), *more],
        partial(EvaluateUnits, job),
        receipts=context.output.child("work/receipts"),
        cluster=context.config.cluster,
        progress=context.progress,
        what="images",
        actors=True,
    )
    files = [PROMPTS, *(file for receipt in receipts for file in receipt["files"])]
    return Drawn(context, sets, prompts, names, files, *_read_scores(context, prompts, names))


def prompt_table(sets: Sequence[PromptList]) -> pa.Table:
    """A row per prompt of each set, in the set's order (PROMPT_ROWS)."""
    rows = [
        {"prompt_id": prompt_id(row.prompt), "set": chosen.name, **vars(row)}
        for chosen in sets
        for row in chosen.prompts
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT_ROWS)


def finish(
    drawn: Drawn,
    results: Results,
    in_training: Sequence[int | None],
    *,
    run: RunPart | None = None,
    weights: Sequence[tuple[str, str, str]] = (),
    summary: Mapping[str, int | float | str | None] | None = None,
) -> StageResult:
    """Write metrics.json, report.html and report.md. `in_training` as `make_breakdown` takes it, `run` and `weights`
    as ReportInputs has them; `summary` is added to what the manifest tells."""
    breakdown = drawn.breakdown(in_training)
    showcase, gained, lost = drawn.showcase()
    inputs = ReportInputs(
        config=drawn.context.config,
        results=results,
        prompts=len(drawn.prompts),
        showcase=showcase,
        run=run,
        breakdown=breakdown,
        gained=gained,
        lost=lost,
        weights=weights,
    )
    return StageResult(
        rows=Rows(in_=drawn.images, out=drawn.images),
        files=[*drawn.files, *_write_results(drawn.context, results, breakdown, inputs)],
        summary={**_summary(drawn, results, breakdown.sets), **(summary or {})},
    )


def _write_results(context: StageContext, results: Results, breakdown: Breakdown, inputs: ReportInputs) -> list[str]:
    figures = {**metrics(results), **breakdown_metrics(breakdown, results.tie_rule)}
    content = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False) + "\n"
    context.output.write_bytes(METRICS, content.encode())
    context.output.write_bytes(REPORT, render_html(inputs).encode())
    context.output.write_bytes(SUMMARY, render_markdown(inputs).encode())
    return [METRICS, REPORT, SUMMARY]


def _summary(drawn: Drawn, results: Results, sets: Sequence[SetFigures]) -> dict[str, Any]:
    """What the manifest tells at a glance."""
    config, headline = drawn.context.config, results.comparisons[0]
    found = reward_versions(config.evaluate.rewards, config)
    return {
        "prompts": len(drawn.prompts),
        "headline_reward": headline.reward,
        "win_rate": headline.wins.value,
        "win_rate_low": headline.wins.low,
        "win_rate_high": headline.wins.high,
        "protocol": results.protocol["digest"] if results.protocol else None,
        **_set_summary(sets),
        **{f"reward {name}": version for name, version in found.items()},
        **({"features": results.features.version} if results.features else {}),
    }


def _read_scores(
    context: StageContext, prompts: list[str], models: Sequence[str]
) -> tuple[list[str], dict[str, dict[str, Floats]]]:
    rewards = context.config.evaluate.rewards
    scores: dict[str, dict[str, Floats]] = {name: {} for name in rewards}
    names: list[str] = []
    for model in models:
        table = _read_units(context, "scores", model, prompts)
        for reward in rewards:
            rows = table.filter(pc.equal(table["reward"], reward))
            scores[reward][model] = rows["score"].to_numpy().astype(np.float64)
            names = rows["prompt_id"].to_pylist()
    return names, scores


def _read_units(
    context: StageContext, kind: str, model: str, prompts: Sequence[str], columns: list[str] | None = None
) -> pa.Table:
    """The rows of all units of a model, in order."""
    files = unit_files(kind, model, len(prompts), context.config.evaluate.unit_prompts)
    return pa.concat_tables(context.output.read_table(file, columns) for file in files)


def _set_summary(sets: Sequence[SetFigures]) -> dict[str, int | float | str | None]:
    """Prompts of every set, and what was left out of them."""
    summary: dict[str, int | float | str | None] = {}
    for figures in sets:
        name, prompts = f"prompts {figures.prompts.name}", figures.prompts
        summary[name] = len(prompts.prompts)
        summary |= {f"{name} {reason}": count for reason, count in prompts.skipped.items()}
        if prompts.kind != "heldout":
            summary |= {f"{name} repeated": prompts.repeated, f"{name} in_training": figures.in_training}
    return summary
