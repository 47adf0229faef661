"""evaluate: images of base and tuned model, scored and compared; metrics.json, report.html and report.md."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.card.counts import count_data
from prefopt.config import RunConfig
from prefopt.config.evaluate import BASE, CHAMPION, TUNED
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.data.ids import normalised_prompt
from prefopt.data.schema import SOURCES
from prefopt.data.tables import read_tables
from prefopt.distributed.evaluate import ComparedModel, accuracy_units
from prefopt.evaluation.accuracy import HeldoutPair, accuracy_points
from prefopt.evaluation.groups import GroupVote, group_accuracies
from prefopt.evaluation.minority import Detection, detect
from prefopt.evaluation.protocol import method_summary
from prefopt.evaluation.report import RunPart
from prefopt.evaluation.results import Results
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate
from prefopt.models.sources import compared_weights, negative_weights, trained_weights, training_weights
from prefopt.prompts import Heldout, PromptList, read_prompts
from prefopt.scoring.reliability import RELIABILITY, Reliability
from prefopt.stages.base import StageContext, StageOutput, StageResult
from prefopt.stages.compared import Drawn, draw, finish
from prefopt.stages.heldout import heldout_gaps, heldout_votes, split_pairs
from prefopt.stages.ingest import SOURCE_FILES
from prefopt.stages.minority import labels_with_truth, u_by_source

STEPS, VERDICTS = "steps.jsonl", "health.jsonl"


def run(context: StageContext) -> StageResult:
    """Write prompts-, images-, scores- and accuracy-*.parquet, metrics.json, report.html and report.md.

    Raises InputError if a prompt set cannot be read or is empty, or if the split to evaluate on is.
    """
    config, ingest = context.config, context.parents["ingest"]
    held_out, elsewhere = split_pairs(ingest, config.evaluate)
    sets = [_prompts(chosen, config, held_out, elsewhere) for chosen in config.prompt_sets]
    pairs, votes = heldout_votes(ingest, held_out, config)
    judged = [name for name in (TUNED, CHAMPION) if name in {TUNED, *config.evaluate.models}]
    drawn = draw(context, sets, _models(context), accuracy_units(pairs, judged))
    results = _results(context, drawn, pairs, votes)
    started = {"ingest": ingest.manifest.key, **training_weights(config).digests}
    accuracy = {"accuracy_heldout": results.accuracy.value if results.accuracy else None}
    return finish(
        drawn,
        results,
        _in_training(sets, ingest),
        run=_run_part(context),
        summary={**accuracy, **method_summary(config, started)},
    )


def _run_part(context: StageContext) -> RunPart:
    """What the report shows of the run."""
    parents = context.parents
    return RunPart(
        card=count_data(parents["ingest"], parents["inject"])[0],
        steps=_lines(parents["train"], STEPS),
        verdicts=_lines(parents["train"], VERDICTS),
        reliability=_reliability(parents["score"]),
        manifests={name: parent.manifest for name, parent in parents.items()},
        sources=_sources(parents["ingest"]),
        key=context.key,
    )


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


def _models(context: StageContext) -> list[ComparedModel]:
    """The base, the tuned model and those that the config adds."""
    config, train = context.config, context.parents["train"].storage
    weights = training_weights(config)
    tuned = trained_weights(train, [weights.base, weights.init.below], TUNED, "the train stage")
    others = [ComparedModel.of(name, found, config.model) for name, found in compared_weights(config).items()]
    return [
        ComparedModel.onto(BASE, weights.base, config.model),
        ComparedModel.onto(TUNED, tuned, config.model, negative_weights(config)),
        *others,
    ]


def _results(context: StageContext, drawn: Drawn, pairs: list[HeldoutPair], votes: list[GroupVote]) -> Results:
    evaluate = context.config.evaluate
    how = Resampling(evaluate.bootstrap, evaluate.seed)
    gaps = heldout_gaps(context.output, drawn.files, TUNED)
    return drawn.results(
        accuracy=_accuracy(gaps, pairs, how),
        accuracy_pairs=len(pairs),
        detections=_detections(context, how),
        groups=group_accuracies(votes, gaps, how),
    )


def _accuracy(gaps: Mapping[str, Floats], pairs: list[HeldoutPair], how: Resampling) -> Estimate | None:
    if not pairs:
        return None
    clusters = [pair.prompt for pair in pairs for _ in gaps[pair.pair_id]]
    points = accuracy_points(np.concatenate([gaps[pair.pair_id] for pair in pairs]))
    return mean_estimate(points, clusters, how, "accuracy")


def _detections(context: StageContext, how: Resampling) -> list[Detection]:
    """Online first: it is what training used, where it was computed."""
    config = context.config
    truth = labels_with_truth(config, context.parents, config.inject.splits)
    pairs = read_tables(context.parents["ingest"], "pairs-", ["pair_id", "prompt"])
    prompts = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))
    sources, injected = u_by_source(config, context.parents, truth), bool(config.inject.flips)
    found = [detect(name, truth, u, prompts, how, injected=injected) for name, u in sources.items()]
    return [detection for detection in found if detection]


def _lines(train: StageOutput, file: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if training wrote no such file."""
    if file not in train.manifest.files_like(file):
        return []
    return [json.loads(line) for line in train.storage.read_bytes(file).splitlines()]


def _sources(ingest: StageOutput) -> pa.Table:
    if SOURCE_FILES not in ingest.manifest.files_like(SOURCE_FILES):
        return SOURCES.empty_table()
    return ingest.storage.read_table(SOURCE_FILES)


def _reliability(score: StageOutput) -> Reliability | None:
    """How reliable alpha is on the validation split; None without an alpha."""
    if RELIABILITY not in score.manifest.files_like(RELIABILITY):
        return None
    return Reliability.model_validate_json(score.storage.read_bytes(RELIABILITY))
