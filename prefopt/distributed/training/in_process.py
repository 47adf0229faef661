"""A training job in this process, as the one worker of its group."""

import os
from typing import Any

import torch
import torch.distributed as dist

from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.worker import train_job
from prefopt.errors import ConfigError


def fit(job: TrainingJob) -> dict[str, Any]:
    """What the worker returns. ConfigError at ZeRO 3, for which DeepSpeed replaces torch's linear layers in the whole
    process: stages after it would round otherwise."""
    if job.config.train.zero_stage == 3:
        raise ConfigError(
            "train.zero 3 shares weights among workers, and cluster.engine process has one: set train.zero to 0, or"
            " cluster.engine to ray."
        )
    device = torch.device(job.config.cluster.device)
    stand_alone(device)
    return train_job(job, device)


def stand_alone(device: torch.device) -> None:
    """Join a process group of one, which this process keeps: DeepSpeed joins one group and knows no other."""
    if dist.is_initialized():
        return
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
