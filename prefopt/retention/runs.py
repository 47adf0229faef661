"""Run directories as they lie there: finished and unfinished stages, notes, and who else uses a store."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import yaml
from pyarrow.fs import FileInfo

from prefopt.config import parse_config
from prefopt.data.manifest import MANIFEST, Manifest, read_manifest
from prefopt.data.storage import Storage
from prefopt.data.users import users
from prefopt.errors import ConfigError, InputError, PrefoptError
from prefopt.stages.keys import COMPARISON, STAGES

NOTES = "run.json"
STAGE_NAMES = (*STAGES, *COMPARISON)
FORGETTING = "forgetting"
"""In a stage's directory: what is about to take the place of its files."""
_IN_STAGE = re.compile(rf"(({'|'.join(STAGE_NAMES)})/[0-9a-f]{{12}})/.+")


@dataclass(frozen=True)
class FinishedStage:
    """A stage's directory with a manifest."""

    place: str
    """<stage>/<start of the key>."""
    storage: Storage
    manifest: Manifest

    def table(self, prefix: str, columns: Sequence[str]) -> pa.Table | None:
        """Some columns of all tables whose names begin so; None where there is none."""
        files = self.manifest.files_like(prefix)
        return pa.concat_tables([self.storage.read_table(file, list(columns)) for file in files]) if files else None


@dataclass(frozen=True)
class Run:
    """A run directory."""

    name: str
    """As it was given."""
    storage: Storage

    @classmethod
    def open(cls, name: str) -> "Run":
        """ConfigError unless a run or a comparison has worked there."""
        run = cls(name.rstrip("/") or "/", Storage(name))
        if run.storage.size(NOTES) is None and not run.stages:
            raise ConfigError(
                f"{name} is no run directory: it holds neither {NOTES} nor a stage. Give directories that `prefopt run`"
                " or `prefopt evaluate` wrote, such as runs/quickstart."
            )
        return run

    @property
    def place(self) -> str:
        """The same for every way to name the run."""
        return self.storage.place()

    @cached_property
    def entries(self) -> dict[str, FileInfo]:
        """All files, as they were at the first look."""
        return self.storage.entries()

    @cached_property
    def stages(self) -> list[str]:
        """Directories of stages, finished or not."""
        found = (_IN_STAGE.fullmatch(name) for name in self.entries)
        return sorted({match[1] for match in found if match})

    def is_finished(self, place: str) -> bool:
        """Whether a stage's directory has a manifest."""
        return f"{place}/{MANIFEST}" in self.entries

    @property
    def finished(self) -> Iterator[FinishedStage]:
        """InputError for a damaged manifest."""
        for place in filter(self.is_finished, self.stages):
            yield self.stage(place)

    @property
    def unfinished(self) -> list[str]:
        """Directories of stages without a manifest: a stage is at work there, or was stopped."""
        return [place for place in self.stages if not self.is_finished(place)]

    def stage(self, place: str) -> FinishedStage:
        """A finished stage, as it is now."""
        storage = self.storage.child(place)
        return FinishedStage(place, storage, read_manifest(storage))

    def of(self, stage: str) -> list[FinishedStage]:
        """The finished outputs of a stage, under whatever keys."""
        return [found for found in self.finished if found.manifest.stage == stage]

    @property
    def notes(self) -> dict[str, str]:
        """Stage to key, as run.json has it. InputError if it is damaged."""
        if self.storage.size(NOTES) is None:
            return {}
        try:
            found = json.loads(self.storage.read_bytes(NOTES))
            return {stage: key for stage, key in found.items() if stage in STAGE_NAMES and len(key) == 64}
        except (ValueError, AttributeError, TypeError):
            raise InputError(
                f"{self.name}/{NOTES} is damaged: run the config again, which skips what is done, and then this."
            ) from None

    def below(self, place: str) -> dict[str, FileInfo]:
        """Files in a directory of the run."""
        return {name: info for name, info in self.entries.items() if name.startswith(f"{place}/")}

    def named_models(self) -> set[str]:
        """Where the run's configs say that models lie which are not its own: starts, references, snapshots, others."""
        found: set[str] = set()
        for stage in STAGE_NAMES:
            name = f"logs/{stage}/config.yaml"
            if name in self.entries:
                found |= _models(self.storage.read_bytes(name).decode(errors="replace"), name)
        return {Storage(place).place() for place in found if _is_place(place)}


def _models(text: str, name: str) -> set[str]:
    try:
        config = parse_config(yaml.safe_load(text), name)
    except (yaml.YAMLError, PrefoptError):
        return set()
    places: list[Any] = [config.model.path, config.train.init_from, config.train.reference_from]
    places += config.score.panel.snapshots if config.score.panel else ()
    places += config.evaluate.models.values()
    places.append(config.evaluate.negative.weights_from if config.evaluate.negative else None)
    return {place for place in places if place}


def _is_place(name: str) -> bool:
    return name.startswith("/") or "://" in name


def open_runs(names: Sequence[str]) -> list[Run]:
    """ConfigError as `Run.open`, or for a run that is named twice."""
    runs = [Run.open(name) for name in names]
    places = [run.place for run in runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ConfigError(f"{names[number]} is given twice: name every run once.")
    return runs


@dataclass(frozen=True)
class OtherUsers:
    """Runs that worked with a store and were not named."""

    runs: list[Run]
    """Those that are there."""
    gone: list[str]
    """Notes of those that are not there any more."""
    elsewhere: list[str]
    """Those on other machines, of which nothing can be said here."""


def other_users(store: Storage, named: Sequence[Run]) -> OtherUsers:
    """InputError for a damaged note."""
    known = {run.place for run in named}
    found = OtherUsers([], [], [])
    for user in users(store):
        if user.run in known and user.here:
            continue
        if not user.here:
            found.elsewhere.append(f"{user.run} on {user.host}")
            continue
        try:
            found.runs.append(Run.open(user.run))
        except ConfigError:
            found.gone.append(user.note)
    return found
