"""Where weights lie (hub, directory, object store), what identifies them, and their files on this machine."""

import contextlib
import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from prefopt.data.ids import canonical_hash, digest
from prefopt.data.storage import Storage
from prefopt.errors import InputError, StorageError
from prefopt.models.identity import is_hub_id
from prefopt.rewards import hub
from prefopt.rewards.files import FileSet, pickles_refused
from prefopt.rewards.node_cache import NodeCache

_CHUNK = 1 << 20
_REMEMBERED = "weights_digests"


@dataclass(frozen=True)
class Sources:
    """What finding weights depends on besides the place."""

    cache: Path
    """Of this machine."""
    memory: Storage
    """Where digests of objects on object stores are remembered: shared by machines."""
    allow_pickles: bool


@dataclass(frozen=True)
class Files:
    """The files of a place on this machine."""

    directory: Path
    weights: Path | None
    """The weights as they were published."""


@dataclass(frozen=True)
class Place:
    """A place whose content is known; `where` is as in the config, a directory absolute."""

    field: str
    where: str
    files: FileSet
    digest: str
    """Of the content, or for a hub id of its commit, which stands for the content."""
    commit: str | None = None

    def fetch(self, sources: Sources) -> Files:
        """Its files on this machine, fetched once. InputError if they are not there, or are not those of `digest`."""
        directory = self._directory(sources)
        present = {name for name in self.files.names if (directory / name).is_file()}
        weights = self.files.choose(present, self.where, self.field, sources.allow_pickles)
        return Files(directory, directory / weights if weights else None)

    def _directory(self, sources: Sources) -> Path:
        if self.commit is not None:
            return _from_hub(self, self.where.partition("@")[0], self.commit, sources)
        if "://" in self.where:
            return NodeCache(sources.cache / "weights").entry(self.digest[:32], self._fetch_objects)
        found = _content_digest(_digests(self.where, self.files, self.field, sources))
        if found != self.digest:
            raise InputError(
                f"{self.field}: {self.where} holds other files on this machine than where the run was planned. Use the"
                " same files everywhere, or one shared place."
            )
        return Path(self.where)

    def _fetch_objects(self, target: Path) -> None:
        storage = Storage(self.where)
        found = {name: _copy(storage, name, target) for name in _wanted(_present(storage, self.files), self.files)}
        if _content_digest(found) != self.digest:
            raise InputError(f"{self.field}: {self.where} has changed since the run was planned. Start it again.")


def find(where: str, files: FileSet, field: str, sources: Sources) -> Place:
    """A place by what the config says: owner/name@revision on the hub, a directory, or s3://.

    Of a hub id at a commit nothing is fetched or asked. InputError, naming the field, if a directory or prefix lacks
    files, or if only pickled weights are there and they are not allowed.
    """
    if "://" not in where and not Path(where).is_dir():
        repository, _, revision = where.partition("@")
        if not is_hub_id(repository):
            raise InputError(
                f"{field}: there is no directory {where}, and it is no hub id (owner/name@revision) either."
            )
        commit = hub.resolve(repository, revision or None, field)
        return Place(field, where, files, canonical_hash({"hub": repository, "commit": commit}), commit)
    place = where if "://" in where else str(Path(where).absolute())
    return Place(field, place, files, _content_digest(_digests(place, files, field, sources)))


def present_files(where: str, files: FileSet) -> list[str]:
    """Those of the files that a directory or prefix holds."""
    return _present(Storage(where), files)


def _from_hub(place: Place, repository: str, commit: str, sources: Sources) -> Path:
    files = place.files
    there = hub.cached(repository, commit)
    if there is not None and _complete(there, files, sources.allow_pickles):
        return there
    directory = hub.fetch(repository, commit, (*files.needed, *files.safe), place.field)
    if not files.pickled or any((directory / name).is_file() for name in files.safe):
        return directory
    if not sources.allow_pickles:
        what = f"{place.where} has no {files.safe[0]}, at best it has {files.pickled[0]}"
        raise pickles_refused(what, place.field, files.safe[0])
    return hub.fetch(repository, commit, files.names, place.field)


def _complete(directory: Path, files: FileSet, allow_pickles: bool) -> bool:
    there = {name for name in files.names if (directory / name).is_file()}
    weights = (*files.safe, *(files.pickled if allow_pickles else ()))
    return there.issuperset(files.needed) and (not weights or not there.isdisjoint(weights))


def _present(storage: Storage, files: FileSet) -> list[str]:
    return [name for name in files.names if storage.size(name) is not None]


def _wanted(present: Container[str], files: FileSet) -> list[str]:
    """The needed files, and the weights that would be read."""
    weights = next((name for name in (*files.safe, *files.pickled) if name in present), None)
    return [*files.needed, *([weights] if weights else [])]


def _digests(where: str, files: FileSet, field: str, sources: Sources) -> dict[str, str]:
    storage = Storage(where)
    present = _present(storage, files)
    files.choose(present, where, field, sources.allow_pickles)
    memory = Storage(str(sources.cache)) if storage.local else sources.memory
    return {name: _remembered(storage, name, memory) for name in _wanted(present, files)}


def _content_digest(digests: Mapping[str, str]) -> str:
    return canonical_hash(dict(digests))


def _remembered(storage: Storage, name: str, memory: Storage) -> str:
    """The sha256 of a file, worked out once for its path, size and time."""
    info = storage.info(name)
    entry = f"{_REMEMBERED}/{digest(storage.path(name), str(info.size), str(info.mtime_ns))}"
    if memory.size(entry) is not None:
        return memory.read_bytes(entry).decode()
    with storage.open_input(name) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(StorageError):  # a memory that cannot be written to costs time alone
        memory.write_bytes(entry, sha256.encode())
    return sha256


def _copy(storage: Storage, name: str, target: Path) -> str:
    """Copy a file and give its sha256."""
    hasher = hashlib.sha256()
    with storage.open_input(name) as source, Storage(str(target)).open_output(name) as stream:
        while piece := source.read(_CHUNK):
            hasher.update(piece)
            stream.write(piece)
    return hasher.hexdigest()
