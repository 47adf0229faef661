"""The function that Ray Train runs on every worker."""

import os
from typing import Any

import torch
import torch.distributed as dist

from prefopt.distributed.training.job import PROMPTS, TrainingJob


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train a job and write its model; returns the paths of the run's segments, or how a guard stopped it."""
    job: TrainingJob = config["job"]
    if not job.config.cluster.worker_gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
    torch.set_num_threads(job.config.cluster.threads)
    from prefopt.distributed.training.run import TrainingRun
    from prefopt.errors import GuardError

    run: TrainingRun = _build(job)
    try:
        segments = run.run()
    except GuardError as error:
        return {"guard": str(error)}
    run.export()
    return {"segments": segments}


def _build(job: TrainingJob) -> Any:
    from prefopt.distributed.training.averages import Averages
    from prefopt.distributed.training.batches import Denoising, StepReader
    from prefopt.distributed.training.denoisers import AVERAGES, build_denoisers
    from prefopt.distributed.training.engine import start_deepspeed
    from prefopt.distributed.training.prompts import PromptEmbeddings
    from prefopt.distributed.training.run import TrainingRun
    from prefopt.distributed.training.step import Trainer
    from prefopt.models.loading import MODEL_DTYPES, load_pipeline, noise_schedule

    start_deepspeed()
    config, params = job.config, job.config.train.objective
    rank, world_size = dist.get_rank(), dist.get_world_size()
    dtype, device = MODEL_DTYPES[config.train.precision], _device()
    pipeline = load_pipeline(config.model, vae=None)
    pipeline.text_encoder.to(device)
    averages = AVERAGES if params.name == "adaptive_dpo" and params.u.source != "offline" else ()
    denoisers = build_denoisers(pipeline.unet.to(device), config, averages, world_size, job.zero_options)
    shadows = Averages(denoisers, averages, params.u.ema if params.name == "adaptive_dpo" else None)
    how = Denoising(noise_schedule(pipeline), pipeline.scheduler.config.prediction_type, dtype, device)
    prompts = PromptEmbeddings(pipeline, job.work.read_table(PROMPTS)["prompt"].to_pylist(), dtype)
    reader = StepReader(job, prompts, how, rank=rank, world_size=world_size)
    return TrainingRun(job, denoisers, shadows, Trainer(denoisers, shadows, params), reader)


def _device() -> torch.device:
    import ray.train.torch

    return ray.train.torch.get_device()
