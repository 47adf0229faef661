"""Work units done in this process, one after the other: stages without Ray."""

import importlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from prefopt.config.cluster import ClusterConfig
from prefopt.data.storage import Storage
from prefopt.distributed.units import Progress, Unit, UnitWorker


def run_here(
    units: Sequence[Unit],
    worker: Callable[[], UnitWorker],
    *,
    receipts: Storage,
    cluster: ClusterConfig,
    progress: Progress,
    what: str,
    actors: bool = False,
) -> list[dict[str, Any]]:
    """As `prefopt.distributed.units.run_units`."""
    made = worker()
    for unit in units:
        name = f"{unit.name}.json"
        if not receipts.exists(name):
            receipts.write_bytes(name, json.dumps(made(json.loads(json.dumps(unit.payload)))).encode())
    return [json.loads(receipts.read_bytes(f"{unit.name}.json")) for unit in units]


def without_ray(patch: pytest.MonkeyPatch, *stages: str) -> None:
    """Let these stages run their units here."""
    for stage in stages:
        patch.setattr(importlib.import_module(f"prefopt.stages.{stage}"), "run_units", run_here)
