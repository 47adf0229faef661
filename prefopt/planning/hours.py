"""From work to time on a device."""

import os
from dataclasses import dataclass

from prefopt.config.cluster import ClusterConfig
from prefopt.planning.amounts import StageWork
from prefopt.planning.gpus import Device, Spread

_CPU_FACTOR = {"high": 0.5, "assumed": 1.0, "low": 2.0}
"""On the seconds that CPUs spend beside the models, by how fast the device is taken to be."""


@dataclass(frozen=True)
class StageTime:
    """How long a stage takes, in seconds, and how many GPUs it holds meanwhile."""

    seconds: Spread
    gpus: float

    @property
    def gpu_seconds(self) -> float:
        """Seconds of all its GPUs together."""
        return self.seconds.assumed * self.gpus


def stage_time(work: StageWork, device: Device, cluster: ClusterConfig) -> StageTime:
    """The time of a stage: what is fixed, FLOPs at the assumed speed, and what CPUs do beside the models.

    A worker that holds a part of a GPU has that part of its speed. Training workers hold one each.
    """
    active, gpus = workers_at_once(work, device, cluster)
    return StageTime(
        Spread(*(_seconds(work, device, active, level) for level in ("high", "assumed", "low"))),
        gpus,
    )


def workers_at_once(work: StageWork, device: Device, cluster: ClusterConfig) -> tuple[float, float]:
    """To how many whole devices a stage's workers come, and how many GPUs they hold."""
    if work.uses_model and device.is_gpu:
        each = 1.0 if work.stage == "train" else cluster.worker_gpus or 1.0
        return work.workers * min(1.0, each), work.workers * each
    if cluster.address is not None:
        return float(work.workers), 0.0
    return min(float(work.workers), (os.cpu_count() or 1) / cluster.threads), 0.0


def _seconds(work: StageWork, device: Device, active: float, level: str) -> float:
    seconds = work.fixed_seconds
    for item in work.items:
        if item.flops:
            speed: float = getattr(device.speed[item.precision], level)
            seconds += item.count * item.flops / (active * speed)
        seconds += item.count * item.cpu_seconds * _CPU_FACTOR[level] / work.workers
    return seconds
