"""What a training worker does, and the function that Ray Train runs on each."""

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from prefopt.config.objective import AdaptiveParams, MinorityConfig
from prefopt.distributed.training.job import PAIRED, PLAN, PROMPTS, TrainingJob
from prefopt.distributed.training.refusal import LASTING, AgreedError, check_refusal, leave_refusal
from prefopt.errors import InputError

if TYPE_CHECKING:
    from prefopt.distributed.training.run import TrainingRun


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """The entry point of Ray Train; `config["job"]` is a TrainingJob."""
    import ray.train.torch

    return train_job(config["job"], ray.train.torch.get_device())


def train_job(job: TrainingJob, device: torch.device) -> dict[str, Any]:
    """Train a job in a process group that stands, and write its model.

    Returns the paths of the run's segments, or the error with which all workers refused to go on.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    torch.set_num_threads(job.config.cluster.threads)
    try:
        check_refusal(job.logs)
        check_cached_references(job, device)
        run = build_run(job, device)
        segments = run.run()
    except AgreedError as error:
        return {"refused": error.reason}
    except LASTING as error:
        leave_refusal(job.logs, error)
        raise
    run.export()
    return {"segments": segments}


def check_cached_references(job: TrainingJob, device: torch.device) -> None:
    """Where training reads the reference's errors: measure some again. AgreedError if they are not this reference's."""
    if job.config.train.reference != "cached":
        return
    from prefopt.distributed.references import check_references

    refused: list[InputError | None] = [None]
    if dist.get_rank() == 0:
        try:
            prompts = job.work.read_table(PROMPTS)["prompt"].to_pylist()
            check_references(job.config, job.store, job.work.read_table(PLAN), prompts, device)
        except InputError as error:
            refused = [error]
    dist.broadcast_object_list(refused, src=0)
    if refused[0]:
        raise AgreedError(refused[0])


def build_run(job: TrainingJob, device: torch.device) -> "TrainingRun":
    """A run with its models, data and checkpoints, ready to start or to resume."""
    # Imported here: DeepSpeed chooses its accelerator when it is first imported.
    from prefopt.distributed.training.averages import Averages
    from prefopt.distributed.training.batches import Denoising, StepReader
    from prefopt.distributed.training.denoisers import AVERAGES, build_denoisers
    from prefopt.distributed.training.engine import start_deepspeed
    from prefopt.distributed.training.paired import PairedDrawing
    from prefopt.distributed.training.prompts import PromptEmbeddings
    from prefopt.distributed.training.refresh import Refresh
    from prefopt.distributed.training.run import TrainingRun
    from prefopt.distributed.training.step import Trainer
    from prefopt.models.loading import MODEL_DTYPES, load_pipeline, noise_schedule, prediction_type

    start_deepspeed()
    config, params = job.config, job.config.train.objective
    rank, world_size = dist.get_rank(), dist.get_world_size()
    dtype = MODEL_DTYPES[config.train.precision]
    evaluates = config.train.health.evaluation is not None
    pipeline = load_pipeline(config.model, dtype, unet=None, **({} if evaluates else {"vae": None})).to(device)
    u = params.u if isinstance(params, AdaptiveParams) else MinorityConfig(source="offline")
    who = () if u.source == "offline" else AVERAGES
    denoisers = build_denoisers(config, job.weights, who, device, world_size, job.zero_options)
    averages = Averages(denoisers, who, u.ema)
    schedule = noise_schedule(pipeline)
    how = Denoising(schedule, prediction_type(pipeline), dtype, device)
    prompts = PromptEmbeddings(
        pipeline,
        job.work.read_table(PROMPTS)["prompt"].to_pylist(),
        batch=config.train.micro_batch,
        cache_mb=config.train.prompt_cache_mb,
    )
    reader = StepReader(job, prompts, how, rank=rank, world_size=world_size)
    paired: PairedDrawing | None = None
    if evaluates:
        fixed = job.work.read_table(PAIRED)["prompt"].to_pylist()
        paired = PairedDrawing(job, denoisers.engine, pipeline, fixed)
    refresh: Refresh | None = None
    if config.train.refresh:
        refresh = Refresh(job, config.train.refresh, denoisers.engine, pipeline, reader)
    trainer = Trainer(denoisers, averages, params)
    return TrainingRun(job, denoisers, averages, trainer, reader, schedule.num_steps, paired, refresh)
