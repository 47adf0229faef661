"""Append-only stores of costly rows, each keyed by its own inputs, so that no run pays twice for a row."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefopt.data.ids import canonical_hash, digest
from prefopt.data.storage import Storage
from prefopt.errors import InputError

KEY = "key"
_ROW_GROUP = 64


class RowStore:
    """Rows of one kind and family: everything that all keys of a family share (model digest, dtype, size).

    Parts are immutable parquet files named after their keys; a row's values depend on its key alone, so it does
    not matter which part holds it.
    """

    def __init__(self, storage: Storage, kind: str, family: Mapping[str, Any]) -> None:
        self.family = canonical_hash(dict(family))[:32]
        self._storage = storage.child(f"{kind}/{self.family}")
        self._description = json.dumps(dict(family), sort_keys=True, indent=1)
        self._places: dict[str, tuple[str, int]] = {}
        self._known_parts: set[str] = set()

    def refresh(self) -> None:
        """Learn of the parts that were written since the last look."""
        for part in self._storage.files():
            if part.endswith(".parquet") and part not in self._known_parts:
                for row, key in enumerate(self._storage.read_table(part, columns=[KEY])[KEY].to_pylist()):
                    self._places.setdefault(key, (part, row))
                self._known_parts.add(part)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that have no row yet, each once, in the given order."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def append(self, rows: pa.Table) -> None:
        """Add rows; the table has a string column `key`. The same rows always make the same file."""
        if not self._storage.exists("family.json"):
            self._storage.write_bytes("family.json", self._description.encode())
        keys = rows[KEY].to_pylist()
        self._storage.write_table(f"{digest(*keys)}.parquet", rows, row_group_size=_ROW_GROUP)

    def get(self, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows of these keys, in this order (a key may repeat). InputError if one has no row."""
        absent = self.missing(keys)
        if absent:
            raise InputError(
                f"{self._storage.uri} lacks {len(absent)} of {len(keys)} rows, first {absent[0]}: run the score stage."
            )
        wanted: dict[str, dict[int, list[int]]] = {}
        for position, key in enumerate(keys):
            part, row = self._places[key]
            wanted.setdefault(part, {}).setdefault(row, []).append(position)
        pieces, positions = [], []
        for part, rows in sorted(wanted.items()):
            order = sorted(rows)
            pieces.append(
                self._read_rows(part, order, list(columns)).take([i for i, r in enumerate(order) for _ in rows[r]])
            )
            positions += [position for row in order for position in rows[row]]
        table = pa.concat_tables(pieces) if pieces else pa.table({name: [] for name in columns})
        return table.take(np.argsort(np.asarray(positions, dtype=np.int64), kind="stable"))

    def _read_rows(self, part: str, rows: list[int], columns: list[str]) -> pa.Table:
        with self._storage.open_input(part) as source:
            file = pq.ParquetFile(source)
            groups = sorted({row // _ROW_GROUP for row in rows})
            table = file.read_row_groups(groups, columns=columns, use_threads=False)
        start = {group: index * _ROW_GROUP for index, group in enumerate(groups)}
        return table.take([start[row // _ROW_GROUP] + row % _ROW_GROUP for row in rows])


class LatentStore(RowStore):
    """Latents, whose shape and dtype the family tells."""

    def __init__(self, storage: Storage, kind: str, family: Mapping[str, Any]) -> None:
        super().__init__(storage, kind, family)
        self._shape, self._dtype = tuple(family["shape"]), np.dtype(family["dtype"])

    def pack(self, latent: np.ndarray, of: str) -> bytes:
        """A latent as it is stored. InputError, with the image that it is `of`, if the dtype cannot hold it or it is
        not finite."""
        if not np.isfinite(latent).all():
            raise InputError(f"The latent of {of} is not finite: check the image, model.vae and score.visits.")
        largest = float(np.abs(latent).max())
        if largest > float(np.finfo(self._dtype).max):
            raise InputError(
                f"The latent of {of} reaches {largest:.6g}, which {self._dtype} cannot hold: check the image and"
                " model.vae, or set score.latent_dtype: float32."
            )
        return pack_array(latent.astype(self._dtype))

    def latents(self, keys: Sequence[str], column: str) -> np.ndarray:
        """float32 [keys, C, H, W]. InputError if one has no row."""
        stored = unpack_arrays(self.get(keys, [column])[column], self._shape, self._dtype.name)
        return stored.astype(np.float32, copy=False)


def pack_array(array: np.ndarray) -> bytes:
    """An array as little-endian bytes; shape and dtype belong to the store's family."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def unpack_arrays(column: pa.ChunkedArray, shape: Sequence[int], dtype: str) -> np.ndarray:
    """A binary column back to one array [rows, *shape]."""
    cells = [np.frombuffer(cell, dtype=np.dtype(dtype).newbyteorder("<")) for cell in column.to_pylist()]
    return np.stack(cells).reshape(len(cells), *shape) if cells else np.empty((0, *shape), dtype)
