"""Manifests: written last, so that a stage's output exists whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefopt.data.ids import canonical_hash
from prefopt.data.storage import Storage
from prefopt.errors import InputError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256_000_000
_CHUNK = 1 << 20


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileEntry(_Record):
    """A file of a stage's output; the path is relative to the manifest."""

    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Rows(_Record):
    """What went in and what became of it, in the stage's unit."""

    in_: Annotated[int, Field(ge=0, alias="in")]
    out: Annotated[int, Field(ge=0)]
    quarantined: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> "Rows":
        if self.in_ != self.out + self.quarantined:
            raise ValueError(f"rows in {self.in_} != out {self.out} + quarantined {self.quarantined}")
        return self


class Manifest(_Record):
    """The commit record of a stage's output."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    key: str
    parents: dict[str, str]
    """Keys of the stages this one read, by name."""
    config_hash: str
    code_version: int
    commit: str
    """The git commit, for the record; it is not part of the key."""
    environment: dict[str, str]
    unit: str
    """What a row is: vote, pair, visit, image."""
    rows: Rows
    files: list[FileEntry]
    summary: dict[str, int | float | str | None] = {}
    """Figures that the report and the data card show."""

    def files_like(self, prefix: str) -> list[str]:
        """Paths of the files whose name starts with a prefix, in order."""
        return [entry.path for entry in self.files if entry.path.startswith(prefix)]


def stage_key(stage: str, code_version: int, config_slice: object, parents: Mapping[str, str]) -> str:
    """The key of a stage: whatever can change its output, and nothing else."""
    return canonical_hash(
        {"stage": stage, "code_version": code_version, "config": config_slice, "parents": dict(parents)}
    )


def describe_file(storage: Storage, relative: str) -> FileEntry:
    """Size and sha256 of a written file."""
    hasher, size = hashlib.sha256(), 0
    with storage.open_input(relative) as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return FileEntry(path=relative, bytes=size, sha256=hasher.hexdigest())


def commit_manifest(storage: Storage, manifest: Manifest) -> None:
    """Write the manifest: the last write of a stage."""
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)
    storage.write_bytes(MANIFEST, (text + "\n").encode())


def read_manifest(storage: Storage) -> Manifest:
    """Read a manifest; InputError if there is none (the output is unfinished) or it is not valid."""
    size = storage.size(MANIFEST)
    if size is None:
        raise InputError(f"{storage.uri} has no {MANIFEST}: the stage did not finish. Run it again.")
    if size > MAX_MANIFEST_BYTES:
        raise InputError(f"{storage.uri}/{MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes.")
    try:
        return Manifest.model_validate_json(storage.read_bytes(MANIFEST))
    except ValidationError as error:
        detail = error.errors()[0]["msg"]
        raise InputError(f"{storage.uri}/{MANIFEST} is damaged ({detail}): remove it and run again.") from None


def is_complete(storage: Storage, key: str) -> bool:
    """Whether a finished output with this key lies here, by its manifest and its files' sizes."""
    if storage.size(MANIFEST) is None:
        return False
    manifest = read_manifest(storage)
    return manifest.key == key and all(storage.size(f.path) == f.bytes for f in manifest.files)


def verify(storage: Storage) -> list[str]:
    """Re-hash every file of a manifest; returns what is wrong, one line per file."""
    problems = []
    for entry in read_manifest(storage).files:
        if storage.size(entry.path) is None:
            problems.append(f"{entry.path}: missing")
        elif describe_file(storage, entry.path) != entry:
            problems.append(f"{entry.path}: content differs from the manifest")
    return problems
