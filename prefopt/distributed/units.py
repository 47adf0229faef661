"""Planned work units on Ray Data: each unit is whole or not done, whoever does it and however often."""

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
from prefopt.errors import PrefoptError, StorageError, WorkerError, error_as_json, error_from_json

RETRIES = 3
"""How often a unit is begun again after the death of the process that did it."""
_DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError)
_PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class Unit:
    """A fixed piece of work: its name within the stage, and JSON-able data that say what to do."""

    name: str
    payload: dict[str, Any]


class UnitWorker(Protocol):
    """Does units: writes its files whole, then returns a JSON-able receipt. Constructed once per actor."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]: ...


class Progress(Protocol):
    """Called with (done, total, what) as work goes on, and a few words on how it goes."""

    def __call__(self, done: int, total: int, what: str, how: str = "") -> None: ...


def run_units(
    units: Sequence[Unit],
    worker: Callable[[], UnitWorker],
    *,
    receipts: Storage,
    cluster: ClusterConfig,
    progress: Progress,
    what: str,
    actors: bool = False,
) -> list[dict[str, Any]]:
    """Do every unit that has no receipt yet; returns all receipts in the order of the units.

    `worker` makes a worker: with `actors` once per actor (it loads a model), otherwise once per unit. A
    PrefoptError of a worker ends the run as itself. Receipts survive a crash, so that finished units are kept. A unit
    whose process dies is done again, RETRIES times; then the run ends with WorkerError. StorageError if Ray's object
    store is full.
    """
    pending = [unit for unit in units if not receipts.exists(_receipt(unit.name))]
    done = len(units) - len(pending)
    progress(done, len(units), what)
    if pending:
        rows = [{"name": unit.name, "payload": json.dumps(unit.payload)} for unit in pending]
        with _explained(what):
            ray.put(bytes(_PROBE_BYTES))  # a store in which nothing fits is said at once
            for outcome in _pool(rows, worker, receipts, cluster, actors).iter_rows():
                if outcome["error"]:
                    raise error_from_json(outcome["error"])
                done += 1
                progress(done, len(units), what)
    return [json.loads(receipts.read_bytes(_receipt(unit.name))) for unit in units]


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
    rows: list[dict[str, Any]],
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
                _Actor,
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


class _Actor:
    """Makes its worker once, so that a model is loaded once."""

    def __init__(self, worker: Callable[[], UnitWorker], receipts: Storage, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._receipts = receipts
        self._error: dict[str, str] | None = None
        self._worker: UnitWorker | None = None
        try:
            self._worker = worker()
        except PrefoptError as error:
            self._error = _outcome("", error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            assert self._error is not None
            return self._error
        return _do(row, self._worker, self._receipts)


def _task(row: dict[str, Any], worker: Callable[[], UnitWorker], receipts: Storage) -> dict[str, Any]:
    return _do(row, worker(), receipts)


def _do(row: dict[str, Any], worker: UnitWorker, receipts: Storage) -> dict[str, str]:
    try:
        receipt = worker(json.loads(row["payload"]))
        receipts.write_bytes(_receipt(row["name"]), json.dumps(receipt, sort_keys=True).encode())
    except PrefoptError as error:
        return _outcome(row["name"], error)
    return {"name": row["name"], "error": ""}


def _outcome(name: str, error: PrefoptError) -> dict[str, str]:
    return {"name": name, "error": error_as_json(error)}


def _receipt(name: str) -> str:
    return f"{name}.json"
