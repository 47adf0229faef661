"""Checkpoints: written by all workers, committed by a manifest of checksums, read only after they have been checked.

The engine's files are pickles; nothing is unpickled before its sha256 is what the manifest says.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefopt.data.manifest import MANIFEST, FileEntry, describe_file
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError

FOLDER = "checkpoints"


class CheckpointManifest(BaseModel):
    """The commit record of a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    """Optimizer steps that are done."""
    fingerprint: str
    """Of the run that it belongs to."""
    workers: int
    zero: int
    state: dict[str, Any]
    """The running scale of the minority metric."""
    files: list[FileEntry]
    """Relative to the checkpoint."""
    segments: list[FileEntry]
    """Figures of all steps so far, relative to the work directory."""


class CheckpointFolder:
    """The checkpoints of one run, in its work directory."""

    def __init__(self, work: Storage, fingerprint: str) -> None:
        self._work = work
        self._fingerprint = fingerprint

    def newest(self) -> CheckpointManifest | None:
        """The newest checkpoint whose files are all there with their checksums; broken ones are passed over."""
        for step in reversed(self._steps()):
            manifest = self._read(step)
            if manifest and self._whole(manifest):
                return manifest
        return None

    def clear(self, step: int) -> None:
        """Remove what an interrupted writer may have left."""
        self._work.delete(self.place(step))

    def publish(self, step: int, directory: Path, name: str) -> list[FileEntry]:
        """Bring a worker's files into the checkpoint under `name`."""
        entries = []
        target = self._work.child(self.place(step))
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            relative = f"{name}/{path.relative_to(directory).as_posix()}"
            copy_in(path, target, relative)
            entries.append(describe_file(target, relative))
        return entries

    def commit(self, manifest: CheckpointManifest, keep: int) -> None:
        """Write the manifest, then drop all others but the newest `keep - 1` of this run up to here."""
        text = manifest.model_dump_json(indent=1)
        self._work.write_bytes(f"{self.place(manifest.step)}/{MANIFEST}", text.encode())
        usable = [step for step in self._steps() if step <= manifest.step and self._read(step)]
        for step in set(self._steps()) - set(usable[-keep:]):
            self._work.delete(self.place(step))

    @contextmanager
    def local_copy(self, manifest: CheckpointManifest) -> Iterator[Path]:
        """A checkpoint's files as a local directory. ValueError if a copy from an object store came out wrong."""
        source = self._work.child(self.place(manifest.step))
        if source.local:
            yield Path(source.path(""))
            return
        with tempfile.TemporaryDirectory(prefix="prefopt-checkpoint-") as name:
            copy = Storage(name)
            for entry in manifest.files:
                with source.open_input(entry.path) as stream, copy.open_output(entry.path) as target:
                    shutil.copyfileobj(stream, target)
                if describe_file(copy, entry.path) != entry:
                    raise ValueError(f"{source.uri}/{entry.path} changed while it was read")
            yield Path(name)

    @staticmethod
    def place(step: int) -> str:
        """Where the checkpoint after a number of steps lies in the work directory."""
        return f"{FOLDER}/step-{step:08d}"

    def _steps(self) -> list[int]:
        names = {file.split("/")[0] for file in self._work.files(FOLDER) for file in [file.removeprefix(f"{FOLDER}/")]}
        return sorted(int(name.removeprefix("step-")) for name in names if name.startswith("step-"))

    def _read(self, step: int) -> CheckpointManifest | None:
        path = f"{self.place(step)}/{MANIFEST}"
        if self._work.size(path) is None:
            return None
        try:
            manifest = CheckpointManifest.model_validate_json(self._work.read_bytes(path))
        except ValidationError:
            return None
        return manifest if manifest.fingerprint == self._fingerprint and manifest.step == step else None

    def _whole(self, manifest: CheckpointManifest) -> bool:
        folder = self._work.child(self.place(manifest.step))
        return all(_intact(folder, entry) for entry in manifest.files) and all(
            _intact(self._work, entry) for entry in manifest.segments
        )


def _intact(storage: Storage, entry: FileEntry) -> bool:
    return storage.size(entry.path) == entry.bytes and describe_file(storage, entry.path) == entry


def check_workers(manifest: CheckpointManifest, workers: int, zero: int) -> None:
    """Raise ConfigError if a checkpoint cannot be continued on this number of workers."""
    if zero and manifest.workers != workers:
        raise ConfigError(
            f"A checkpoint of this run after {manifest.step} steps was written by {manifest.workers} workers and"
            f" cannot be continued by {workers} at ZeRO {zero}: set train.workers to {manifest.workers}, or choose"
            " another --run-dir to start anew."
        )


@contextmanager
def scratch_directory(work: Storage, rank: int) -> Iterator[Path]:
    """A directory of a worker's own for files on their way to storage: on the same disk where that is local."""
    parent = None
    if work.local:
        parent = work.path("scratch")
        os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"rank-{rank}-", dir=parent) as name:
        yield Path(name)


def copy_in(path: Path, target: Storage, relative: str) -> None:
    """Bring a local file into a storage: moved where both are on one disk, else copied. It appears whole."""
    if target.local:
        destination = Path(target.path(relative))
        destination.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(path, 0o644)
        shutil.move(path, destination)
        return
    with path.open("rb") as stream, target.open_output(relative) as output:
        shutil.copyfileobj(stream, output, 1 << 20)
