"""train: fine-tune the base model on the planned visits."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.data.ids import digest
from prefopt.data.manifest import Rows
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.training.job import MODEL, PAIRED, PLAN, PROMPTS, TrainingJob
from prefopt.distributed.training.launch import launch
from prefopt.distributed.training.plan import join_plan, paired_prompts
from prefopt.distributed.training.segments import read_online_u, read_steps, read_verdicts
from prefopt.models.card import CARD, model_card
from prefopt.models.families import model_family
from prefopt.models.identity import vae_digest
from prefopt.models.sources import LORA_BASE, PIPELINE, TrainingWeights, pipeline_digest, training_weights
from prefopt.stages.base import StageContext, StageResult

STEPS, VERDICTS, MINORITY = "steps.jsonl", "health.jsonl", "minority.parquet"
ZERO = "zero-stage"


def run(context: StageContext) -> StageResult:
    """Write the tuned model in diffusers format, steps.jsonl, health.jsonl, and minority.parquet where u was computed
    online."""
    job, plan = prepare(context)
    segments = launch(job, context.progress)
    return finish(context, job, plan, segments)


def prepare(context: StageContext) -> tuple[TrainingJob, pa.Table]:
    """Join the plan and write it where the workers read it."""
    work = context.output.child("work")
    weights = training_weights(context.config)
    config = _with_zero_settled(context.config, weights, work)
    ingest, score = context.parents["ingest"], context.parents["score"]
    pairs, scores = read_tables(ingest, "pairs-"), read_tables(score, "scores-")
    plan, prompts = join_plan(read_tables(score, "visits-"), pairs, scores, config.train)
    work.write_table(PLAN, plan, row_group_size=config.train.global_batch)
    work.write_table(PROMPTS, pa.table({"prompt": pa.array(prompts, pa.string())}))
    if config.train.health.evaluation:
        held_out = pairs.filter(pc.equal(pairs["split"], "validation"))["prompt"].to_pylist()
        work.write_table(PAIRED, pa.table({"prompt": pa.array(paired_prompts(config, held_out), pa.string())}))
    return TrainingJob(
        config=config,
        weights=weights,
        vae_digest=vae_digest(config.model),
        plan_digest=digest(work.read_bytes(PLAN), work.read_bytes(PROMPTS)),
        output=context.output,
        work=work,
        store=context.store,
        logs=context.logs,
    ), plan


def _with_zero_settled(config: RunConfig, weights: TrainingWeights, work: Storage) -> RunConfig:
    """Choose the stage of `zero: auto` once for a run: its checkpoints belong to it, however many workers go on."""
    if config.train.zero != "auto":
        return config
    if not work.exists(ZERO):
        from prefopt.distributed.memory import lowest_stage, worker_memory
        from prefopt.models.size import empty_unet, unet_size

        size = unet_size(empty_unet(config.model), config.train.lora)
        memory = worker_memory(config.cluster, config.train.workers)
        per_node = config.cluster.gpus_per_node
        stage = lowest_stage(size, config.train, per_node=per_node, memory=memory, apart=weights.reference_apart)
        work.write_bytes(ZERO, f"{stage}".encode())
    settled = config.train.model_copy(update={"zero": int(work.read_bytes(ZERO))})
    return config.model_copy(update={"train": settled})


def finish(context: StageContext, job: TrainingJob, plan: pa.Table, segments: Sequence[str]) -> StageResult:
    """Put the stage's tables together from the finished segments."""
    context.output.write_bytes(STEPS, read_steps(job.work, segments))
    context.output.write_bytes(VERDICTS, read_verdicts(job.work, segments))
    files = [STEPS, VERDICTS, *_minority(context.output, job, plan, segments)]
    context.output.write_bytes(f"{MODEL}/{CARD}", _card(context, job).encode())
    files += [f"{MODEL}/{name}" for name in context.output.child(MODEL).files()]
    visits, objective = plan.num_rows, context.config.train.objective
    summary: dict[str, int | float | str | None] = {
        "objective": objective.name,
        "method": context.config.train.method,
        "steps": context.config.train.steps,
        "zero": job.config.train.zero,
        "prompts": len(plan["prompt"].unique()),
        PIPELINE: pipeline_digest(context.config.model),
    }
    if context.config.train.method == "lora":
        summary[LORA_BASE] = job.weights.init.below.digest
    if isinstance(objective, AdaptiveParams):
        summary |= {"margin_scale": objective.margin_scale, "u_source": objective.u.source}
    return StageResult(rows=Rows(**{"in": visits, "out": visits}), files=files, summary=summary)


def _card(context: StageContext, job: TrainingJob) -> str:
    score = context.parents["score"].manifest
    keys = {**dict(sorted(score.parents.items())), "score": score.key}
    steps = [json.loads(line) for line in context.output.read_bytes(STEPS).splitlines()]
    return model_card(job.config, model_family(job.config.model), job.weights, keys, steps)


def _minority(output: Storage, job: TrainingJob, plan: pa.Table, segments: Sequence[str]) -> list[str]:
    online = read_online_u(job.work, segments)
    if online is None:
        return []
    batch = job.config.train.global_batch
    table = plan.select(["visit_id", "pair_id", "vote_id"])
    table = table.append_column("step", pa.array([1 + row // batch for row in range(plan.num_rows)], pa.int64()))
    output.write_table(MINORITY, table.append_column("u", pa.array(online, pa.float64())))
    return [MINORITY]
