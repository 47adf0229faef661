"""Launching a training job on Ray Train, from the driver."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from prefopt.config.cluster import ClusterConfig
from prefopt.config.unused import unused_options
from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.lenient import Lenient
from prefopt.distributed.training.live import LIVE, Live, read_live
from prefopt.distributed.training.notes import NoteReader
from prefopt.distributed.training.refusal import REFUSED
from prefopt.distributed.training.worker import train_worker
from prefopt.distributed.units import Progress
from prefopt.errors import ConfigError, PrefoptError

_POLL_SECONDS, _POLL_SECONDS_REMOTE = 1.0, 5.0
_LOG = logging.getLogger("prefopt.train")


def launch(job: TrainingJob, progress: Progress) -> list[str]:
    """Train a job on a running Ray; returns the paths of its segments in the work directory.

    A lost worker restarts all of them from the newest checkpoint, at most `max_failures` times. Raises GuardError
    if a guard stopped training, and whatever error of ours a worker raised.
    """
    train, cluster = job.config.train, job.config.cluster
    _check_room(train.workers, cluster)
    if train.zero == 3 and train.workers == 1:
        _LOG.warning(
            "train.zero 3 with one worker: nothing is sharded, and gathering costs time. Raise train.workers, or set"
            " train.zero: 0."
        )
    unused = unused_options(train)
    if unused:
        _LOG.warning(f"Set, but without effect: {', '.join(unused)}.")
    resources: dict[str, float] = {"CPU": cluster.worker_cpus}
    trainer = TorchTrainer(
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
    with _reported(job, progress):
        result = _fit(trainer)
    if "refused" in result:
        raise result["refused"]
    segments: list[str] = result["segments"]
    return segments


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


def _fit(trainer: TorchTrainer) -> dict[str, Any]:
    from ray.train.v2.api.exceptions import WorkerGroupError

    try:
        returned: dict[str, Any] = trainer.fit().return_value
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            for cause in _causes(failure):
                if isinstance(cause, PrefoptError):
                    raise cause from None
        raise
    return returned


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


@contextmanager
def _reported(job: TrainingJob, progress: Progress) -> Iterator[None]:
    total, stop = job.config.train.steps, threading.Event()
    notes, lenient = NoteReader(job.logs), Lenient("The progress of training")
    pause = _POLL_SECONDS if job.logs.local else _POLL_SECONDS_REMOTE

    def tell_notes() -> None:
        with lenient():
            for sentence in notes.new():
                _LOG.warning(sentence)

    def live() -> Live | None:
        with lenient():
            return read_live(job.logs)
        return None

    def poll() -> None:
        seen: Live | None = None
        while not stop.wait(pause):
            tell_notes()
            now = live()
            if now is not None and now != seen:
                progress(now.done, total, "steps", now.words())
                seen = now

    job.logs.delete(LIVE)
    job.logs.delete(REFUSED)
    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
        last = live()
        progress(total, total, "steps", last.words() if last else "")
    finally:
        stop.set()
        thread.join()
        tell_notes()
