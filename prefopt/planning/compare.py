"""What a finished run really took, beside what a plan says for the settings that it ran with."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.identity import with_absolute_places
from prefopt.planning.counting import count_ingested, logged_config, noted_keys
from prefopt.planning.flops import forward_costs
from prefopt.planning.gpus import choose_device
from prefopt.planning.hours import stage_time, workers_at_once
from prefopt.planning.work import all_work
from prefopt.stages.keys import STAGES


@dataclass(frozen=True)
class Taken:
    """One stage of a finished run."""

    stage: str
    planned_seconds: float
    taken_seconds: float
    flops: float
    devices: float
    """GPUs, or CPU workers, that shared the work."""

    @property
    def ratio(self) -> float:
        """Taken over planned."""
        return self.taken_seconds / self.planned_seconds

    @property
    def flops_per_second(self) -> float:
        """What each device really did: start-up and everything else that is no product counts as time."""
        return self.flops / (self.taken_seconds * self.devices)


def compare_run(run: Storage, gpu: str | None) -> tuple[Sequence[Taken], Sequence[str]]:
    """Planned and taken seconds of every finished stage of a run, and sentences about stages left out.

    A run without GPUs is held against CPUs, whatever `gpu` names.
    """
    found, notes = [], []
    for stage in _finished(run):
        try:
            taken = _taken(run, stage, gpu)
        except InputError as error:
            notes.append(f"{stage} is not compared: {error}")
            continue
        if taken is None:
            notes.append(f"{stage} is not compared: its logged config or the run's ingest is not there any more.")
        else:
            found.append(taken)
    return found, notes


def _finished(run: Storage) -> Iterator[str]:
    keys = noted_keys(run)
    for stage in STAGES:
        if stage in keys and run.size(_log(stage, keys[stage])) is not None:
            yield stage


def _taken(run: Storage, stage: str, gpu: str | None) -> Taken | None:
    config, counts = logged_config(run, stage), count_ingested(run)
    if config is None or counts is None:
        return None
    config = with_absolute_places(config)
    device, _ = choose_device(config, gpu if config.cluster.worker_gpus else None)
    work = all_work(config, counts, forward_costs(config.model))[stage]
    active, _ = workers_at_once(work, device, config.cluster)
    log = json.loads(run.read_bytes(_log(stage, noted_keys(run)[stage])))
    return Taken(
        stage,
        planned_seconds=stage_time(work, device, config.cluster).seconds.assumed,
        taken_seconds=max(float(log["seconds"]), 1e-3),
        flops=work.flops,
        devices=active,
    )


def _log(stage: str, key: str) -> str:
    return f"logs/{stage}/{key[:12]}.json"
