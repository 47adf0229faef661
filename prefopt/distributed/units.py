"""Planned work units: each is whole or not done, whoever does it and however often."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefopt.config.cluster import ClusterConfig
from prefopt.data.storage import Storage
from prefopt.errors import PrefoptError, error_as_json, error_from_json

RETRIES = 3
"""How often a unit is begun again after the death of the process of Ray that did it."""
Row = dict[str, str]
"""What travels to workers and back: plain text."""


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


def say_nothing(done: int, total: int, what: str, how: str = "") -> None:
    """The Progress of work that nobody watches."""


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
        for outcome in _outcomes(rows, worker, receipts, cluster, what, actors):
            if outcome["error"]:
                raise error_from_json(outcome["error"])
            done += 1
            progress(done, len(units), what)
    return [json.loads(receipts.read_bytes(_receipt(unit.name))) for unit in units]


def _outcomes(
    rows: list[Row],
    worker: Callable[[], UnitWorker],
    receipts: Storage,
    cluster: ClusterConfig,
    what: str,
    actors: bool,
) -> Iterator[Row]:
    if cluster.engine == "process":
        return _in_this_process(rows, worker, receipts, cluster.threads, actors)
    from prefopt.distributed.pool import on_ray

    return on_ray(rows, worker, receipts, cluster, what, actors)


def _in_this_process(
    rows: list[Row], worker: Callable[[], UnitWorker], receipts: Storage, threads: int, actors: bool
) -> Iterator[Row]:
    doer = UnitDoer(worker, receipts, threads) if actors else None
    for row in rows:
        yield doer(row) if doer else do_unit(row, worker(), receipts)


class UnitDoer:
    """Makes its worker once, so that a model is loaded once."""

    def __init__(self, worker: Callable[[], UnitWorker], receipts: Storage, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._receipts = receipts
        self._error: Row | None = None
        self._worker: UnitWorker | None = None
        try:
            self._worker = worker()
        except PrefoptError as error:
            self._error = _outcome("", error)

    def __call__(self, row: Row) -> Row:
        if self._worker is None:
            assert self._error is not None
            return self._error
        return do_unit(row, self._worker, self._receipts)


def do_unit(row: Row, worker: UnitWorker, receipts: Storage) -> Row:
    """Do the unit of a row (name, payload as JSON) and leave its receipt; gives its name, and its error as JSON."""
    try:
        receipt = worker(json.loads(row["payload"]))
        receipts.write_bytes(_receipt(row["name"]), json.dumps(receipt, sort_keys=True).encode())
    except PrefoptError as error:
        return _outcome(row["name"], error)
    return {"name": row["name"], "error": ""}


def _outcome(name: str, error: PrefoptError) -> Row:
    return {"name": name, "error": error_as_json(error)}


def _receipt(name: str) -> str:
    return f"{name}.json"
