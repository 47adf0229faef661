"""Parts of stores without some of their rows: the new part is written before the old one goes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo

from prefopt.data.storage import Storage
from prefopt.data.store import write_part

OWNERS = ("pair_id", "image_id", "prompt_id")
"""Columns that say what a row was made from; parts of earlier versions lack them."""
_FAMILY = "family.json"
Doomed = Callable[[pa.Table], pa.Array]
"""Which rows go, by their key and OWNERS."""


@dataclass
class Removed:
    """What was removed, or would be."""

    rows: int = 0
    bytes: int = 0
    files: int = 0

    def add(self, other: "Removed") -> None:
        """Count more."""
        self.rows, self.bytes, self.files = self.rows + other.rows, self.bytes + other.bytes, self.files + other.files


@dataclass
class Tally:
    """What was removed, by kind."""

    kinds: dict[str, Removed] = field(default_factory=dict)

    def add(self, kind: str, removed: Removed) -> None:
        """Count what was removed of a kind."""
        if removed.files:
            self.kinds.setdefault(kind, Removed()).add(removed)

    def record(self) -> dict[str, dict[str, int]]:
        """As JSON."""
        return {kind: vars(removed) for kind, removed in sorted(self.kinds.items())}


def families(store: Storage, kind: str) -> Iterator[tuple[str, dict[str, FileInfo]]]:
    """Directories of a kind's families, and their parts."""
    found: dict[str, dict[str, FileInfo]] = {}
    for name, info in store.entries(kind).items():
        parts = name.split("/")
        if len(parts) == 3:
            of_family = found.setdefault("/".join(parts[:2]), {})
            if name.endswith(".parquet"):
                of_family[name] = info
    yield from found.items()


def remove_rows(
    store: Storage, part: str, info: FileInfo, doomed: Doomed, *, dry_run: bool, whole: bool = False
) -> Removed:
    """Take rows out of one part of a store. `whole`: only where all of its rows go, as somebody may be reading it."""
    rows = store.read_table(part, _told(store, part))
    hit = doomed(rows)
    count = pc.sum(hit).as_py() or 0
    if not count or (whole and count < rows.num_rows):
        return Removed()
    if count == rows.num_rows:
        if not dry_run:
            store.delete(part)
        return Removed(count, info.size, 1)
    if dry_run:
        return Removed(count, info.size * count // rows.num_rows, 1)
    family = store.child(part.rpartition("/")[0])
    name = write_part(family, store.read_table(part).filter(pc.invert(hit)))
    store.delete(part)
    return Removed(count, info.size - (family.size(name) or 0), 1)


def remove_empty(store: Storage, family: str) -> None:
    """Remove a family's directory where no part is left."""
    if store.files(family) in ([], [f"{family}/{_FAMILY}"]):
        store.delete(family)


def _told(store: Storage, part: str) -> list[str]:
    with store.open_input(part) as stream:
        names = pq.read_schema(stream).names
    return [name for name in ("key", *OWNERS) if name in names]
