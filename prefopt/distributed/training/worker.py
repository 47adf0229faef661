"""What a training worker does, and the function that Ray Train runs on each."""

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from prefopt.config.objective import MinorityConfig
from prefopt.distributed.training.job import PROMPTS, TrainingJob
from prefopt.errors import GuardError

if TYPE_CHECKING:
    from prefopt.distributed.training.run import TrainingRun


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """The entry point of Ray Train; `config["job"]` is a TrainingJob."""
    import ray.train.torch

    return train_job(config["job"], ray.train.torch.get_device())


def train_job(job: TrainingJob, device: torch.device) -> dict[str, Any]:
    """Train a job in a process group that stands, and write its model.

    Returns the paths of the run's segments, or the message of the guard that stopped it.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    torch.set_num_threads(job.config.cluster.threads)
    run = build_run(job, device)
    try:
        segments = run.run()
    except GuardError as error:
        return {"guard": str(error)}
    run.export()
    return {"segments": segments}


def build_run(job: TrainingJob, device: torch.device) -> "TrainingRun":
    """A run with its models, data and checkpoints, ready to start or to resume."""
    # Imported here: DeepSpeed chooses its accelerator when it is first imported.
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
    dtype = MODEL_DTYPES[config.train.precision]
    pipeline = load_pipeline(config.model, vae=None)
    pipeline.text_encoder.to(device)
    u = params.u if params.name == "adaptive_dpo" else MinorityConfig(source="offline")
    who = () if u.source == "offline" else AVERAGES
    denoisers = build_denoisers(pipeline.unet.to(device), config, who, world_size, job.zero_options)
    averages = Averages(denoisers, who, u.ema)
    how = Denoising(noise_schedule(pipeline), pipeline.scheduler.config.prediction_type, dtype, device)
    prompts = PromptEmbeddings(pipeline, job.work.read_table(PROMPTS)["prompt"].to_pylist(), dtype)
    reader = StepReader(job, prompts, how, rank=rank, world_size=world_size)
    return TrainingRun(job, denoisers, averages, Trainer(denoisers, averages, params), reader)
