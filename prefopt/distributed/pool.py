"""Units on Ray Data: a pool of actors, or tasks, that outlives the processes in it."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator

import ray
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.exceptions import (
    NodeDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
from ray.util.annotations import RayDeprecationWarning

from prefopt.config.cluster import ClusterConfig
from prefopt.data.storage import Storage
from prefopt.distributed.units import RETRIES, Row, UnitDoer, UnitWorker, do_unit
from prefopt.errors import StorageError, WorkerError

_DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError)
_PROBE_BYTES = 1 << 20
_NODE_SECONDS = 60.0
"""After which a node that does not answer is known to be lost."""


def on_ray(
    rows: list[Row],
    worker: Callable[[], UnitWorker],
    receipts: Storage,
    cluster: ClusterConfig,
    what: str,
    actors: bool,
) -> Iterator[Row]:
    """The outcome of each row's unit as it is done. Raises what `run_units` says of processes and the object store.

    Ray counts every try to reach an actor on a lost node, so that all retries of a unit may be gone before the loss is
    known. A lost node is not the unit's fault: what is left is begun again on the others, RETRIES times.
    """
    left = {row["name"]: row for row in rows}
    with _explained(what):
        ray.put(bytes(_PROBE_BYTES))  # a store in which nothing fits is said at once
        for more in reversed(range(RETRIES + 1)):
            nodes = _nodes()
            try:
                for outcome in _pool(list(left.values()), worker, receipts, cluster, actors).iter_rows():
                    left.pop(outcome["name"], None)
                    yield outcome
                return
            except _DEATHS:
                if not more or not _loses_one_of(nodes):
                    raise


def _nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _loses_one_of(nodes: set[str]) -> bool:
    """Whether one of several nodes goes away, which takes Ray a while to find out."""
    end = time.monotonic() + _NODE_SECONDS
    while len(nodes) > 1 and time.monotonic() < end:
        if nodes - _nodes():
            return True
        time.sleep(1.0)
    return False


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Ray's own failures in words."""
    try:
        yield
    except _DEATHS as error:
        raise WorkerError(
            f"A process that worked on {what} died, and beginning its unit again ({RETRIES} times at most) did not"
            " help: something kills it, most often a lack of memory (the machine's log says so), or a library"
            " crashes. Lower batch sizes or cluster.workers, or give more memory, and run the same command again:"
            " finished work is kept."
        ) from error
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise StorageError(
            f"Ray's object store is full, and so is the disk that it spills to: {what} cannot go on. Free space below"
            " Ray's temporary directory (/tmp/ray by default), raise cluster.object_store_mb, or end what else fills"
            " the cluster, and run the same command again: finished work is kept."
        ) from error


def _pool(
    rows: list[Row],
    worker: Callable[[], UnitWorker],
    receipts: Storage,
    cluster: ClusterConfig,
    actors: bool,
) -> ray.data.Dataset:
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    size = min(cluster.workers, len(rows))
    with warnings.catch_warnings():
        # Ray 2.60 knows no other way to bound retries, though it says that this one will go.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        if actors:
            return dataset.map(
                UnitDoer,
                fn_constructor_args=(worker, receipts, cluster.threads),
                compute=ActorPoolStrategy(size=size),
                num_cpus=cluster.worker_cpus,
                num_gpus=cluster.worker_gpus,
                max_task_retries=RETRIES,
            )
        return dataset.map(
            functools.partial(_task, worker=worker, receipts=receipts),
            compute=TaskPoolStrategy(size=size),
            num_cpus=cluster.worker_cpus,
            max_retries=RETRIES,
        )


def _task(row: Row, worker: Callable[[], UnitWorker], receipts: Storage) -> Row:
    return do_unit(row, worker(), receipts)
