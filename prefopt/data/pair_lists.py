"""Lists of pair ids as text files, a line each, sorted."""

import hashlib
from collections.abc import Iterable

from prefopt.config.retrain import PairsConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError

MAX_BYTES = 1_000_000_000


def encoded_pairs(pairs: Iterable[str]) -> bytes:
    """The file's content: the same pairs give the same bytes."""
    return "".join(f"{pair}\n" for pair in sorted(set(pairs))).encode()


def write_pairs(directory: str, name: str, pairs: Iterable[str]) -> PairsConfig:
    """Write a list, and say where it lies."""
    storage, content = Storage(directory), encoded_pairs(pairs)
    storage.write_bytes(name, content)
    digest, count = hashlib.sha256(content).hexdigest(), content.count(b"\n")
    return PairsConfig(place=storage.place(name), sha256=digest, pairs=count)


def read_pairs(place: str, sha256: str | None = None) -> frozenset[str]:
    """The pairs of a file, local or s3://. InputError if it is not there, too large, or not what `sha256` says."""
    directory, _, name = place.rpartition("/")
    storage = Storage(directory)
    size = storage.size(name)
    if size is None or size > MAX_BYTES:
        raise InputError(f"{place} is {'not there' if size is None else 'too large'}: plan the night again.")
    content = storage.read_bytes(name)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{place} has changed since the night was planned: plan it again.")
    return frozenset(content.decode(errors="replace").split())
