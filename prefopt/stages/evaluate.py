"""evaluate: images of base and tuned model, scored and compared; metrics.json, report.html and report.md."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.card.counts import count_data
from prefopt.config import RunConfig
from prefopt.config.evaluate import EvaluateConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import normalised_prompt, prompt_id
from prefopt.data.manifest import Rows
from prefopt.data.tables import read_tables
from prefopt.distributed.evaluate import (
    MODELS,
    PROMPT_ROWS,
    EvaluateUnits,
    EvaluationJob,
    accuracy_units,
    image_units,
)
from prefopt.distributed.units import run_units
from prefopt.errors import InputError
from prefopt.evaluation.accuracy import HeldoutPair, accuracy_points, heldout_pairs
from prefopt.evaluation.breakdown import breakdown_metrics, make_breakdown
from prefopt.evaluation.lineage import display_name
from prefopt.evaluation.minority import Detection, detect, label_truth, offline_u, online_u
from prefopt.evaluation.report import ReportInputs, render_html, render_markdown
from prefopt.evaluation.results import Results, compare, metrics
from prefopt.evaluation.sets import Scores, SetFigures, drawn_sets
from prefopt.evaluation.showcase import prompt_gains, read_changed, read_showcase
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate
from prefopt.models.sources import negative_weights, training_weights
from prefopt.prompts import Heldout, PromptList, drawn_prompts, read_prompts
from prefopt.rewards import reward_spec, reward_versions
from prefopt.scoring.reliability import RELIABILITY, Reliability
from prefopt.stages.base import StageContext, StageOutput, StageResult

MODEL, MINORITY, STEPS, VERDICTS = "model", "minority.parquet", "steps.jsonl", "health.jsonl"
PROMPTS, METRICS, REPORT, SUMMARY = "prompts-00000.parquet", "metrics.json", "report.html", "report.md"


def run(context: StageContext) -> StageResult:
    """Write prompts-, images-, scores- and accuracy-*.parquet, metrics.json, report.html and report.md.

    Raises InputError if a prompt set cannot be read or is empty, or if the split to evaluate on is.
    """
    config, ingest = context.config, context.parents["ingest"]
    held_out, elsewhere = _split_pairs(ingest, config.evaluate)
    sets = [_prompts(chosen, config, held_out, elsewhere) for chosen in config.evaluate.prompt_sets]
    prompts = drawn_prompts(sets)
    context.output.write_table(PROMPTS, prompt_table(sets))
    pairs = _heldout(ingest, held_out, config)
    files = _work(context, prompts, pairs)
    names, scores = _read_scores(context, prompts)
    drawn = drawn_sets(sets, prompts, config.evaluate.samples_per_prompt)
    breakdown = make_breakdown(config.evaluate, scores, names, drawn, _in_training(sets, ingest))
    results = _results(context, names, scores, pairs)
    figures = {**metrics(results), **breakdown_metrics(breakdown, results.tie_rule)}
    content = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False) + "\n"
    context.output.write_bytes(METRICS, content.encode())
    gained, lost = read_changed(
        context.output, prompts, prompt_gains(scores[config.evaluate.rewards[0]], names, prompts), config.evaluate
    )
    counts, _ = count_data(ingest, context.parents["inject"])
    inputs = ReportInputs(
        config=config,
        results=results,
        card=counts,
        steps=_lines(context.parents["train"], STEPS),
        verdicts=_lines(context.parents["train"], VERDICTS),
        reliability=_reliability(context.parents["score"]),
        showcase=read_showcase(
            context.output, prompts, range(min(config.evaluate.grid_prompts, len(prompts))), config.evaluate
        ),
        manifests={name: parent.manifest for name, parent in context.parents.items()},
        prompts=len(prompts),
        breakdown=breakdown,
        gained=gained,
        lost=lost,
    )
    context.output.write_bytes(REPORT, render_html(inputs).encode())
    context.output.write_bytes(SUMMARY, render_markdown(inputs).encode())
    images = len(MODELS) * len(prompts) * config.evaluate.samples_per_prompt
    return StageResult(
        rows=Rows(in_=images, out=images),
        files=[PROMPTS, *files, METRICS, REPORT, SUMMARY],
        summary={**_summary(results, len(prompts)), **_set_summary(breakdown.sets), **_versions(context)},
    )


def prompt_table(sets: Sequence[PromptList]) -> pa.Table:
    """A row per prompt of each set, in the set's order (PROMPT_ROWS)."""
    rows = [
        {"prompt_id": prompt_id(row.prompt), "set": chosen.name, **vars(row)}
        for chosen in sets
        for row in chosen.prompts
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT_ROWS)


def _prompts(
    chosen: PromptSetConfig, config: RunConfig, held_out: list[dict[str, Any]], elsewhere: set[str]
) -> PromptList:
    reader = Heldout(held_out, elsewhere) if isinstance(chosen, HeldoutPrompts) else None
    return read_prompts(chosen, config.ingest.limits, reader)


def _in_training(sets: Sequence[PromptList], ingest: StageOutput) -> list[int | None]:
    """How many prompts of each set the training split holds too."""
    if all(chosen.kind == "heldout" for chosen in sets):
        return [None] * len(sets)
    pairs = read_tables(ingest, "pairs-", ["prompt", "split"])
    trained = pc.unique(pairs.filter(pc.equal(pairs["split"], "train"))["prompt"])
    seen = {normalised_prompt(prompt) for prompt in trained.to_pylist()}
    return [
        None if chosen.kind == "heldout" else sum(normalised_prompt(row.prompt) in seen for row in chosen.prompts)
        for chosen in sets
    ]


def _split_pairs(ingest: StageOutput, evaluate: EvaluateConfig) -> tuple[list[dict[str, Any]], set[str]]:
    """The pairs of the split to evaluate on, and the prompts of all others."""
    split = evaluate.split
    rows: list[dict[str, Any]] = []
    elsewhere: set[str] = set()
    for file in ingest.manifest.files_like("pairs-"):
        pairs = ingest.storage.read_table(file)
        inside = pc.equal(pairs["split"], split)
        rows += pairs.filter(inside).to_pylist()
        elsewhere |= set(pairs.filter(pc.invert(inside))["prompt"].to_pylist())
    if not rows and evaluate.draws_heldout:
        raise InputError(
            f"The {split} split is empty, so there is nothing to evaluate on: raise ingest.split.{split}, give more"
            " data, or raise limit."
        )
    return rows, elsewhere


def _heldout(ingest: StageOutput, test: list[dict[str, Any]], config: RunConfig) -> list[HeldoutPair]:
    """Test pairs for the implicit accuracy, labelled by the votes as they came, before any injected noise."""
    evaluate = config.evaluate
    if not evaluate.accuracy.pairs or not test:
        return []
    wanted = pa.array([row["pair_id"] for row in test])
    votes = []
    for file in ingest.manifest.files_like("votes-"):
        table = ingest.storage.read_table(file, ["pair_id", "label", "latest"])
        votes += table.filter(pc.is_in(table["pair_id"], wanted)).to_pylist()
    images = read_tables(ingest, "images-", ["image_id", "height", "width"])
    seen = pa.array([row[side] for row in test for side in ("image_0", "image_1")], pa.string())
    framing = Framing.of(config.score.sizes, images.filter(pc.is_in(images["image_id"], seen)))
    told = config.score.size_conditioning
    return heldout_pairs(test, votes, framing, told, most=evaluate.accuracy.pairs, seed=evaluate.seed)


def _work(context: StageContext, prompts: list[str], pairs: list[HeldoutPair]) -> list[str]:
    """Do all units in one pool of actors; returns the files they wrote."""
    job = EvaluationJob(
        config=context.config,
        weights=training_weights(context.config),
        negative=negative_weights(context.config),
        rewards=tuple(reward_spec(name, context.config) for name in context.config.evaluate.rewards),
        tuned=context.parents["train"].storage.child(MODEL),
        output=context.output,
        store=context.store,
    )
    receipts = run_units(
        [*image_units(prompts, context.config.evaluate.unit_prompts), *accuracy_units(pairs)],
        partial(EvaluateUnits, job),
        receipts=context.output.child("work/receipts"),
        cluster=context.config.cluster,
        progress=context.progress,
        what="images",
        actors=True,
    )
    return [file for receipt in receipts for file in receipt["files"]]


def _results(context: StageContext, names: Sequence[str], scores: Scores, pairs: list[HeldoutPair]) -> Results:
    config = context.config
    how = Resampling(config.evaluate.bootstrap, config.evaluate.seed)
    return Results(
        base_name=display_name(config.model.path),
        tie_rule=config.evaluate.ties,
        comparisons=compare(config.evaluate, scores, names),
        accuracy=_accuracy(context, pairs, how),
        accuracy_pairs=len(pairs),
        detections=_detections(context, how),
    )


def _read_scores(context: StageContext, prompts: list[str]) -> tuple[list[str], dict[str, dict[str, Floats]]]:
    """The prompt id of every image, and scores by reward and model in that order."""
    rewards = context.config.evaluate.rewards
    units = range(-(-len(prompts) // context.config.evaluate.unit_prompts))
    scores: dict[str, dict[str, Floats]] = {name: {} for name in rewards}
    names: list[str] = []
    for model in MODELS:
        table = pa.concat_tables(context.output.read_table(f"scores-{model}-{unit:05d}.parquet") for unit in units)
        for reward in rewards:
            rows = table.filter(pc.equal(table["reward"], reward))
            scores[reward][model] = rows["score"].to_numpy().astype(np.float64)
            names = rows["prompt_id"].to_pylist()
    return names, scores


def _accuracy(context: StageContext, pairs: list[HeldoutPair], how: Resampling) -> Estimate | None:
    if not pairs:
        return None
    files = [f"accuracy-{unit.payload['number']:05d}.parquet" for unit in accuracy_units(pairs)]
    gaps = pa.concat_tables(context.output.read_table(file) for file in files)
    prompts = {pair.pair_id: pair.prompt for pair in pairs}
    clusters = [prompts[pair] for pair in gaps["pair_id"].to_pylist()]
    return mean_estimate(accuracy_points(gaps["z"].to_numpy()), clusters, how, "accuracy")


def _detections(context: StageContext, how: Resampling) -> list[Detection]:
    """Online first: it is what training used, where it was computed."""
    ingest, inject, score, train = (context.parents[name] for name in ("ingest", "inject", "score", "train"))
    columns = ["vote_id", "pair_id", "label", "latest"]
    truth = label_truth(
        read_tables(inject, "labels-", columns), read_tables(ingest, "votes-", columns), context.config.labels.rule
    )
    pairs = read_tables(ingest, "pairs-", ["pair_id", "prompt", "split"])
    pairs = pairs.filter(pc.is_in(pairs["split"], pa.array(context.config.inject.splits)))
    prompts = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))
    truth = truth.filter(pc.is_in(truth["pair_id"], pairs["pair_id"].combine_chunks()))
    sources = {"offline": offline_u(truth, read_tables(score, "scores-", ["pair_id", "u", "stability"]))}
    if MINORITY in train.manifest.files_like(MINORITY):
        seen = train.storage.read_table(MINORITY, ["vote_id", "step", "u"])
        sources = {"online": online_u(seen, _warmup(context.config)), **sources}
    injected = bool(context.config.inject.flips)
    found = [detect(name, truth, u, prompts, how, injected=injected) for name, u in sources.items() if u is not None]
    return [detection for detection in found if detection]


def _warmup(config: RunConfig) -> int:
    """Optimizer steps in which training has no online u yet."""
    objective = config.train.objective
    if not isinstance(objective, AdaptiveParams) or objective.u.normalise != "running":
        return 0
    return objective.u.warmup


def _lines(train: StageOutput, file: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if training wrote no such file."""
    if file not in train.manifest.files_like(file):
        return []
    return [json.loads(line) for line in train.storage.read_bytes(file).splitlines()]


def _reliability(score: StageOutput) -> Reliability | None:
    """How reliable alpha is on the validation split; None without an alpha."""
    if RELIABILITY not in score.manifest.files_like(RELIABILITY):
        return None
    return Reliability.model_validate_json(score.storage.read_bytes(RELIABILITY))


def _versions(context: StageContext) -> dict[str, str]:
    """What identifies each reward model, digest of its weights included."""
    found = reward_versions(context.config.evaluate.rewards, context.config)
    return {f"reward {name}": version for name, version in found.items()}


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


def _summary(results: Results, prompts: int) -> dict[str, int | float | str | None]:
    headline = results.comparisons[0]
    return {
        "prompts": prompts,
        "headline_reward": headline.reward,
        "win_rate": headline.wins.value,
        "win_rate_low": headline.wins.low,
        "win_rate_high": headline.wins.high,
        "accuracy_heldout": results.accuracy.value if results.accuracy else None,
    }
