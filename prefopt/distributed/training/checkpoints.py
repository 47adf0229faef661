"""Checkpoints: written by all workers, committed by a manifest of checksums, read only after they have been checked.

The engine's files are pickles; nothing is unpickled before its sha256 is what the manifest says. A checkpoint with
files that its manifest does not list is not used, for DeepSpeed takes whatever has a fitting name.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from prefopt.data.manifest import MANIFEST, FileEntry, describe_file
from prefopt.data.storage import Storage
from prefopt.errors import StorageError

FOLDER = "checkpoints"
SCRATCH = "scratch"
_NAME = re.compile(r"step-(\d+)\..+")
_PART = re.compile(r"part-\d{5}\.json")
_THREADS = 8
_ENTRIES = TypeAdapter(list[FileEntry])


class CheckpointManifest(BaseModel):
    """The commit record of a checkpoint.

    No state of a random generator is kept, for training draws nothing: all that is random about a visit is fixed
    by the plan. The place in the data is the step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    """Optimizer steps that are done."""
    attempt: str
    """Tells this save from others of the same step, so that two writers never share a file."""
    fingerprint: str
    """Of the run that it belongs to."""
    workers: int
    zero: int
    state: dict[str, Any]
    """What every worker holds alike, as plain JSON with finite numbers, by the name of its owner."""
    config: dict[str, Any]
    """The resolved config, for the record: the fingerprint decides."""
    files: list[FileEntry]
    """Relative to the checkpoint: the engine's (weights and optimizer) and the shadows of the averages."""
    segments: list[FileEntry]
    """Figures of all steps so far, relative to the work directory."""


class Unusable(Exception):
    """A checkpoint cannot be resumed from; the message says why."""


class CheckpointFolder:
    """The checkpoints of one run, in its work directory."""

    def __init__(self, work: Storage, fingerprint: str) -> None:
        self._work = work
        self._fingerprint = fingerprint

    def newest(self, not_after: int | None = None) -> tuple[CheckpointManifest | None, list[str]]:
        """The newest checkpoint whose files are all there with their checksums, and why newer ones are passed over.

        With `not_after`, those after more steps than that do not count.
        """
        passed_over = []
        for name in reversed(self._names()):
            if not_after is not None and _step(name) > not_after:
                continue
            try:
                manifest = self._read(name)
                self._check_files(manifest)
            except Unusable as reason:
                passed_over.append(f"The checkpoint after {_step(name)} steps is passed over: {reason}.")
            else:
                return manifest, passed_over
        return None, passed_over

    def clear_unfinished(self) -> None:
        """Remove what interrupted writers left. Before the first save of a run alone: a writer may still be alive."""
        for name in self._names():
            if self._work.size(f"{FOLDER}/{name}/{MANIFEST}") is None:
                self._work.delete(f"{FOLDER}/{name}")

    def publish(self, place: str, directory: Path) -> list[FileEntry]:
        """Bring a worker's files into a checkpoint, away from `directory`; describes them as they were there."""
        source, target = Storage(str(directory)), self._work.child(place)
        entries = [describe_file(source, name) for name in source.files()]
        for entry in entries:
            copy_in(directory / entry.path, target, entry.path)
        return entries

    def write_part(self, place: str, rank: int, entries: Sequence[FileEntry]) -> None:
        """Say that a worker's files are all there."""
        self._work.write_bytes(_part(place, rank), _ENTRIES.dump_json(list(entries)))

    def read_part(self, place: str, rank: int) -> list[FileEntry] | None:
        """A worker's files, or None if they are not all there yet."""
        path = _part(place, rank)
        return None if self._work.size(path) is None else _ENTRIES.validate_json(self._work.read_bytes(path))

    def write_segments(self, segments: dict[str, bytes]) -> list[FileEntry]:
        """Write figures of finished steps by name."""
        for name, content in segments.items():
            self._work.write_bytes(name, content)
        return [describe_file(self._work, name) for name in segments]

    def commit(self, manifest: CheckpointManifest, keep: int, vouched: int | None = None) -> None:
        """Write the manifest, then drop all finished checkpoints but it and this run's newest `keep - 1` before it.

        With `vouched`, the newest that is not after that step stays as well: the one that a roll-back would take.
        """
        written = self.place(manifest.step, manifest.attempt).removeprefix(f"{FOLDER}/")
        self._work.write_bytes(f"{FOLDER}/{written}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
        finished = [name for name in self._names() if self._work.size(f"{FOLDER}/{name}/{MANIFEST}") is not None]
        earlier = [name for name in finished if _step(name) < manifest.step and self._readable(name)]
        mine = [*earlier, written]
        kept = set(mine[-keep:])
        if vouched is not None:
            kept |= set([name for name in mine if _step(name) <= vouched][-1:])
        for name in set(finished) - kept:
            self._work.delete(f"{FOLDER}/{name}")

    @contextmanager
    def local_copy(self, manifest: CheckpointManifest) -> Iterator[Path]:
        """A checkpoint's files as a local directory. StorageError if a copy from an object store came out wrong."""
        source = self._work.child(self.place(manifest.step, manifest.attempt))
        if source.local:
            yield Path(source.path(""))
            return
        with tempfile.TemporaryDirectory(prefix="prefopt-checkpoint-") as name:
            copy = Storage(name)

            def fetch(entry: FileEntry) -> None:
                with source.open_input(entry.path) as stream, copy.open_output(entry.path) as target:
                    shutil.copyfileobj(stream, target, 1 << 20)
                if describe_file(copy, entry.path) != entry:
                    raise StorageError(f"{source.uri}/{entry.path} changed while it was read: run the command again.")

            _all(fetch, manifest.files)
            yield Path(name)

    @staticmethod
    def place(step: int, attempt: str) -> str:
        """Where a checkpoint lies in the work directory."""
        return f"{FOLDER}/step-{step:08d}.{attempt}"

    def _names(self) -> list[str]:
        found = {path.split("/")[1] for path in self._work.files(FOLDER)}
        return sorted((name for name in found if _NAME.fullmatch(name)), key=lambda name: (_step(name), name))

    def _readable(self, name: str) -> bool:
        try:
            self._read(name)
        except Unusable:
            return False
        return True

    def _read(self, name: str) -> CheckpointManifest:
        path = f"{FOLDER}/{name}/{MANIFEST}"
        if self._work.size(path) is None:
            raise Unusable("it was not finished")
        try:
            manifest = CheckpointManifest.model_validate_json(self._work.read_bytes(path))
        except ValidationError:
            raise Unusable(f"its {MANIFEST} is damaged") from None
        if self.place(manifest.step, manifest.attempt) != f"{FOLDER}/{name}":
            raise Unusable(f"its {MANIFEST} is of another checkpoint")
        if manifest.fingerprint != self._fingerprint:
            raise Unusable("it belongs to another model, plan or config")
        return manifest

    def _check_files(self, manifest: CheckpointManifest) -> None:
        folder = self._work.child(self.place(manifest.step, manifest.attempt))
        unlisted = set(folder.files()) - {entry.path for entry in manifest.files} - {MANIFEST}
        for name in sorted(unlisted):
            if not _PART.fullmatch(name):
                raise Unusable(f"its {MANIFEST} does not list {name}, and nothing unknown is read")
        _all(lambda entry: _check(folder, entry), manifest.files)
        _all(lambda entry: _check(self._work, entry), manifest.segments)


def _step(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1])


def _part(place: str, rank: int) -> str:
    return f"{place}/part-{rank:05d}.json"


def _check(storage: Storage, entry: FileEntry) -> None:
    size = storage.size(entry.path)
    if size is None:
        raise Unusable(f"{entry.path} is missing")
    if size != entry.bytes:
        raise Unusable(f"{entry.path} has {size} bytes, not {entry.bytes}")
    if describe_file(storage, entry.path) != entry:
        raise Unusable(f"{entry.path} is not what was written, by its sha256")


def _all(do: Callable[[FileEntry], None], entries: Iterable[FileEntry]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(do, entries))


@contextmanager
def scratch_directory(work: Storage, rank: int) -> Iterator[Path]:
    """A directory of a worker's own for files on their way to storage: on the same disk where that is local."""
    parent = None
    if work.local:
        parent = work.path(SCRATCH)
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
