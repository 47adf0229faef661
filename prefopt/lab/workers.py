"""Who works for the laboratory: long-lived actors on Ray, or threads that send jobs to a cluster."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

import ray

from prefopt.config.cluster import ClusterConfig
from prefopt.distributed.quiet import quieten
from prefopt.errors import ConfigError, PrefoptError, WorkerError, error_as_json, error_from_json
from prefopt.lab.jobs import Job
from prefopt.lab.outcome import Outcome
from prefopt.lab.work import Laboratory

RETRIES = 2
"""How often a job is begun again after the death of its process; a cell goes on from its newest checkpoint."""
Given = Outcome | None
"""Of a cell its outcome, of a stage nothing."""


class Workers(Protocol):
    """Does jobs, a few at a time."""

    size: int
    """How many at a time."""

    def begin(self, job: Job) -> None:
        """Begin a job; fewer than `size` are under way."""

    def finished(self) -> list[tuple[Job, Given | PrefoptError]]:
        """Waits until some of the jobs under way have ended."""


class _Actor:
    """A process that outlives its jobs."""

    def __init__(self, laboratory: Laboratory, threads: int) -> None:
        quieten()
        import torch

        torch.set_num_threads(threads)
        self._laboratory = laboratory

    def do(self, job: Job) -> Given | str:
        """What the job gave, or its error as JSON."""
        return _do(self._laboratory, job)


def _do(laboratory: Laboratory, job: Job) -> Given | str:
    try:
        if job.stage is None:
            return laboratory.do_cell(job.cell)
        laboratory.do_stage(job.stage, job.cell)
    except PrefoptError as error:
        return error_as_json(error)
    except Exception as error:  # whatever it is, other cells go on
        cause = " ".join(str(error).split())[:500]
        return error_as_json(
            WorkerError(f"Unexpected {type(error).__name__}: {cause} Run the cell alone to see where.")
        )
    return None


def _read(given: Given | str) -> Given | PrefoptError:
    return error_from_json(given) if isinstance(given, str) else given


class Actors:
    """Actors of a Ray that is connected."""

    def __init__(self, laboratory: Laboratory, cluster: ClusterConfig, size: int | None) -> None:
        self.size = _size(cluster, size)
        make = ray.remote(num_cpus=1, num_gpus=cluster.worker_gpus, max_restarts=-1, max_task_retries=RETRIES)(_Actor)
        self._free: list[Any] = [make.remote(laboratory, cluster.threads) for _ in range(self.size)]
        self._under_way: dict[Any, tuple[Job, Any]] = {}

    def begin(self, job: Job) -> None:
        """Give it to a free actor."""
        actor = self._free.pop(0)
        self._under_way[actor.do.remote(job)] = (job, actor)

    def finished(self) -> list[tuple[Job, Given | PrefoptError]]:
        """The first job that ends."""
        (first,), _ = ray.wait(list(self._under_way), num_returns=1)
        job, actor = self._under_way.pop(first)
        self._free.append(actor)
        try:
            return [(job, _read(ray.get(first)))]
        except ray.exceptions.RayError as error:
            told = (
                f"The process that worked on it died {RETRIES + 1} times, for lack of memory? ({type(error).__name__})"
            )
            return [(job, WorkerError(told))]


def _size(cluster: ClusterConfig, wanted: int | None) -> int:
    """How many actors there is room for, or as many as wanted. ConfigError if a Ray that does not grow is too small."""
    there = ray.cluster_resources()
    room = int(there.get("CPU", 0.0))
    if cluster.worker_gpus:
        room = min(room, int(there.get("GPU", 0.0) / cluster.worker_gpus))
    if not (cluster.address or "RAY_ADDRESS" in os.environ) and max(wanted or 1, 1) > room:
        raise ConfigError(
            f"{wanted or 1} workers of a CPU and {cluster.worker_gpus:g} GPUs each are more than the"
            f" {there.get('CPU', 0.0):g} CPUs and {there.get('GPU', 0.0):g} GPUs of the local Ray: lower `workers`, set"
            " cluster.worker_gpus: 0 in the run, or send its stages to a cluster with cluster.submit."
        )
    return wanted or max(1, room if cluster.worker_gpus else room - 1)


class Threads:
    """Threads, each of which sends a cell's stages to a cluster and waits for them. They end with the process: nobody
    waits for what is under way then."""

    def __init__(self, laboratory: Laboratory, size: int) -> None:
        self.size = size
        self.under_way = 0
        self._laboratory = laboratory
        self._ended: SimpleQueue[tuple[Job, Given | str]] = SimpleQueue()

    def begin(self, job: Job) -> None:
        """Give it to a thread of its own."""
        self.under_way += 1
        Thread(target=self._do, args=(job,), name=job.name, daemon=True).start()

    def finished(self) -> list[tuple[Job, Given | PrefoptError]]:
        """The first job that ends."""
        job, given = self._ended.get()
        self.under_way -= 1
        return [(job, _read(given))]

    def _do(self, job: Job) -> None:
        self._ended.put((job, _do(self._laboratory, job)))


_JOBS_AT_A_TIME = 8
"""On a cluster, whose queue decides which of them runs."""


@contextmanager
def hired(
    laboratory: Laboratory,
    cluster: ClusterConfig,
    size: int | None,
    start_engine: Callable[[], object],
    say: Callable[[str], None],
) -> Iterator[Workers]:
    """Workers for the time of a block. Where it ends before their work, `say` is told what becomes of that."""
    if not laboratory.elsewhere:
        start_engine()
        yield Actors(laboratory, cluster, size)
        return
    threads = Threads(laboratory, size or _JOBS_AT_A_TIME)
    try:
        yield threads
    except BaseException:
        if threads.under_way:
            say(
                f"Stages and cells left under way: {threads.under_way}. Their jobs on the cluster go on, and the same"
                " command watches them or takes what they made; until then nothing more is submitted."
            )
        raise
