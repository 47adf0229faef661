"""Tables that a finished stage's manifest lists, and batches of their rows."""

from typing import Protocol

import pyarrow as pa

from prefopt.data.manifest import Manifest
from prefopt.data.storage import Storage


class Finished(Protocol):
    """A finished stage's output."""

    @property
    def storage(self) -> Storage: ...

    @property
    def manifest(self) -> Manifest: ...


def read_tables(stage: Finished, prefix: str, columns: list[str] | None = None) -> pa.Table:
    """All shards whose name starts with `prefix`, in order, as one table."""
    files = stage.manifest.files_like(prefix)
    return pa.concat_tables([stage.storage.read_table(file, columns) for file in files])


def padded(table: pa.Table, size: int) -> pa.Table:
    """The table with its last row repeated until it has `size` rows."""
    count: int = table.num_rows
    return table.take([*range(count), *[count - 1] * (size - count)])
