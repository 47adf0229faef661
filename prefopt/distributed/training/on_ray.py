"""A training job on Ray Train."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from prefopt.config.cluster import ClusterConfig
from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.worker import train_worker
from prefopt.errors import ConfigError, PrefoptError

_LOG = logging.getLogger("prefopt.train")


def fit(job: TrainingJob) -> dict[str, Any]:
    """What the workers return. ConfigError if there is no room for them, and whatever error of ours one raised."""
    from ray.train.v2.api.exceptions import WorkerGroupError

    try:
        returned: dict[str, Any] = _trainer(job).fit().return_value
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            for cause in _causes(failure):
                if isinstance(cause, PrefoptError):
                    raise cause from None
        raise
    return returned


def _trainer(job: TrainingJob) -> TorchTrainer:
    train, cluster = job.config.train, job.config.cluster
    _check_room(train.workers, cluster)
    if train.zero == 3 and train.workers == 1:
        _LOG.warning(
            "train.zero 3 with one worker: nothing is sharded, and gathering costs time. Raise train.workers, or set"
            " train.zero: 0."
        )
    resources: dict[str, float] = {"CPU": cluster.worker_cpus}
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=train.workers, use_gpu=bool(cluster.worker_gpus), resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name="ray-train",
            storage_path=job.logs.place(),
            failure_config=FailureConfig(max_failures=train.max_failures),
        ),
    )


def _check_room(workers: int, cluster: ClusterConfig) -> None:
    """Raise ConfigError if a local Ray, which never grows, is too small for the workers.

    A cluster may grow while training waits: there missing GPUs are only told.
    """
    total = ray.cluster_resources()
    gpus = total.get("GPU", 0.0)
    short = cluster.device == "cuda" and workers > gpus
    if cluster.address or "RAY_ADDRESS" in os.environ:
        if short:
            _LOG.warning(
                f"train.workers {workers} is more than the {gpus:g} GPUs that the Ray cluster has now: training waits"
                " until it has one for each."
            )
        return
    if short:
        raise ConfigError(
            f"train.workers {workers} is more than the {gpus:g} GPUs of the local Ray, and each training worker needs"
            " one: lower train.workers, or set cluster.worker_gpus: 0 to train on CPUs."
        )
    if workers * cluster.worker_cpus <= total.get("CPU", 0.0):
        return
    raise ConfigError(
        f"train.workers {workers} x cluster.worker_cpus {cluster.worker_cpus} is more than the {total['CPU']:g} CPUs of"
        " the local Ray: lower one of them, or raise cluster.cpus."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__
