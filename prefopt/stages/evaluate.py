"""evaluate: images of base and tuned model, scored and compared; metrics.json, report.html and report.md."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.card.counts import count_data
from prefopt.config import RunConfig
from prefopt.config.evaluate import BASE, TUNED, EvaluateConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import normalised_prompt
from prefopt.data.schema import SOURCES
from prefopt.data.tables import read_tables
from prefopt.distributed.evaluate import ComparedModel, accuracy_units
from prefopt.errors import InputError
from prefopt.evaluation.accuracy import HeldoutPair, accuracy_points, heldout_pairs
from prefopt.evaluation.groups import GroupVote, group_accuracies, group_votes
from prefopt.evaluation.minority import Detection, detect, label_truth, offline_u, online_u
from prefopt.evaluation.protocol import method_summary
from prefopt.evaluation.report import RunPart
from prefopt.evaluation.results import Results
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate
from prefopt.models.sources import compared_weights, negative_weights, trained_weights, training_weights
from prefopt.prompts import Heldout, PromptList, read_prompts
from prefopt.scoring.reliability import RELIABILITY, Reliability
from prefopt.stages.base import StageContext, StageOutput, StageResult
from prefopt.stages.compared import Drawn, draw, finish
from prefopt.stages.ingest import SOURCE_FILES

MINORITY, STEPS, VERDICTS = "minority.parquet", "steps.jsonl", "health.jsonl"


def run(context: StageContext) -> StageResult:
    """Write prompts-, images-, scores- and accuracy-*.parquet, metrics.json, report.html and report.md.

    Raises InputError if a prompt set cannot be read or is empty, or if the split to evaluate on is.
    """
    config, ingest = context.config, context.parents["ingest"]
    held_out, elsewhere = _split_pairs(ingest, config.evaluate)
    sets = [_prompts(chosen, config, held_out, elsewhere) for chosen in config.prompt_sets]
    pairs, votes = _heldout(ingest, held_out, config)
    drawn = draw(context, sets, _models(context), accuracy_units(pairs))
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


def _heldout(
    ingest: StageOutput, test: list[dict[str, Any]], config: RunConfig
) -> tuple[list[HeldoutPair], list[GroupVote]]:
    """Test pairs for the implicit accuracy and the votes on them, as they came, before any injected noise."""
    evaluate = config.evaluate
    if not evaluate.accuracy.pairs or not test:
        return [], []
    wanted = pa.array([row["pair_id"] for row in test])
    votes = []
    for file in ingest.manifest.files_like("votes-"):
        table = ingest.storage.read_table(file, ["pair_id", "label", "latest", "group"])
        votes += table.filter(pc.is_in(table["pair_id"], wanted)).to_pylist()
    images = read_tables(ingest, "images-", ["image_id", "height", "width"])
    seen = pa.array([row[side] for row in test for side in ("image_0", "image_1")], pa.string())
    framing = Framing.of(config.score.sizes, images.filter(pc.is_in(images["image_id"], seen)))
    told = config.score.size_conditioning
    pairs = heldout_pairs(test, votes, framing, told, most=evaluate.accuracy.pairs, seed=evaluate.seed)
    return pairs, group_votes(pairs, test, votes)


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
    gaps = _gaps(context, pairs)
    return drawn.results(
        accuracy=_accuracy(gaps, pairs, how),
        accuracy_pairs=len(pairs),
        detections=_detections(context, how),
        groups=group_accuracies(votes, gaps, how),
    )


def _gaps(context: StageContext, pairs: list[HeldoutPair]) -> dict[str, Floats]:
    """The gaps z [draws] of every held-out pair."""
    if not pairs:
        return {}
    files = [f"accuracy-{unit.payload['number']:05d}.parquet" for unit in accuracy_units(pairs)]
    rows = pa.concat_tables(context.output.read_table(file, ["pair_id", "z"]) for file in files)
    z = rows["z"].to_numpy().reshape(len(pairs), -1)
    return dict(zip(rows["pair_id"].to_pylist()[:: z.shape[1]], z, strict=True))


def _accuracy(gaps: Mapping[str, Floats], pairs: list[HeldoutPair], how: Resampling) -> Estimate | None:
    if not pairs:
        return None
    clusters = [pair.prompt for pair in pairs for _ in gaps[pair.pair_id]]
    points = accuracy_points(np.concatenate([gaps[pair.pair_id] for pair in pairs]))
    return mean_estimate(points, clusters, how, "accuracy")


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


def _sources(ingest: StageOutput) -> pa.Table:
    if SOURCE_FILES not in ingest.manifest.files_like(SOURCE_FILES):
        return SOURCES.empty_table()
    return ingest.storage.read_table(SOURCE_FILES)


def _reliability(score: StageOutput) -> Reliability | None:
    """How reliable alpha is on the validation split; None without an alpha."""
    if RELIABILITY not in score.manifest.files_like(RELIABILITY):
        return None
    return Reliability.model_validate_json(score.storage.read_bytes(RELIABILITY))
