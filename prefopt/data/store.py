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
    not matter which part holds it. A column pair_id, image_id or prompt_id says what a row was made from, so that it
    can be found when that is to be forgotten.
    """

    def __init__(self, storage: Storage, kind: str, family: Mapping[str, Any]) -> None:
        self.family = canonical_hash(dict(family))[:32]
        self._storage = storage.child(f"{kind}/{self.family}")
        self._description = json.dumps(dict(family), sort_keys=True, indent=1)
        self._parts: list[str] = []
        self._keys = np.empty(0, dtype="S1")
        """Sorted; beside each, the number of a part that holds it, and its row there."""
        self._part, self._row = np.empty((2, 0), dtype=np.int32)

    def refresh(self) -> None:
        """Learn of the parts that were written since the last look."""
        known = set(self._parts)
        new = [part for part in self._storage.files() if part.endswith(".parquet") and part not in known]
        if not new:
            return
        found = [np.array(self._storage.read_table(part, columns=[KEY])[KEY].to_pylist(), dtype="S") for part in new]
        numbers = np.arange(len(known), len(known) + len(new), dtype=np.int32)
        parts = np.concatenate([self._part, np.repeat(numbers, [len(keys) for keys in found])])
        rows = np.concatenate([self._row, *(np.arange(len(keys), dtype=np.int32) for keys in found)])
        self._keys, first = np.unique(np.concatenate([self._keys, *found]), return_index=True)
        self._part, self._row = parts[first], rows[first]
        self._parts += new

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that have no row yet, each once, in the given order."""
        wanted = list(dict.fromkeys(keys))
        return [key for key, place in zip(wanted, self._find(wanted), strict=True) if place < 0]

    def _find(self, keys: Sequence[str]) -> np.ndarray:
        """Places in the sorted keys; -1 for a key that has no row yet."""
        if not self._keys.size:
            return np.full(len(keys), -1)
        wanted = np.array(keys, dtype="S")
        places = np.searchsorted(self._keys, wanted).clip(max=self._keys.size - 1)
        return np.where(self._keys[places] == wanted, places, -1)

    def append(self, rows: pa.Table) -> None:
        """Add rows; the table has a string column `key`. The same rows always make the same file."""
        if not self._storage.exists("family.json"):
            self._storage.write_bytes("family.json", self._description.encode())
        write_part(self._storage, rows)

    def get(self, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows of these keys, in this order (a key may repeat). InputError if one has no row."""
        places = self._find(keys)
        if (places < 0).any():
            absent = self.missing(keys)
            raise InputError(
                f"{self._storage.uri} lacks {len(absent)} of {len(keys)} rows, first {absent[0]}: run the score stage."
            )
        if not len(keys):
            return pa.table({name: [] for name in columns})
        parts, rows = self._part[places], self._row[places]
        order = np.argsort(parts, kind="stable")
        pieces = [
            self._read_rows(self._parts[parts[of_part[0]]], rows[of_part], list(columns))
            for of_part in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1)
        ]
        return pa.concat_tables(pieces).take(np.argsort(order))

    def _read_rows(self, part: str, rows: np.ndarray, columns: list[str]) -> pa.Table:
        with self._storage.open_input(part) as source:
            file = pq.ParquetFile(source)
            groups, place = np.unique(rows // _ROW_GROUP, return_inverse=True)
            table = file.read_row_groups(groups.tolist(), columns=columns, use_threads=False)
        return table.take(place * _ROW_GROUP + rows % _ROW_GROUP)


def write_part(family: Storage, rows: pa.Table) -> str:
    """Write rows as one part of a family; returns the file's name."""
    name = f"{digest(*rows[KEY].to_pylist())}.parquet"
    family.write_table(name, rows, row_group_size=_ROW_GROUP)
    return name


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
