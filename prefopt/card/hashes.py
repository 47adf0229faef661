"""64-bit stand-ins for ids and texts, so that what is distinct can be counted in little memory."""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prefopt.data.ids import digest

Hashes = NDArray[np.uint64]
_DIGITS = 16


def id_hashes(ids: pa.ChunkedArray) -> Hashes:
    """[n] the first 64 bits of content ids."""
    joined = "".join(pc.utf8_slice_codeunits(ids, 0, _DIGITS).to_pylist())
    return np.frombuffer(bytes.fromhex(joined), dtype=">u8").astype(np.uint64)


def text_hashes(texts: Iterable[str]) -> Hashes:
    """[n] hashes of texts."""
    return np.array([int(digest("text", text)[:_DIGITS], 16) for text in texts], dtype=np.uint64)


def column_hashes(column: pa.ChunkedArray, changed: Callable[[str], str] = str) -> Hashes:
    """[n] hashes of the changed texts of a column; each distinct text is changed and hashed once."""
    encoded = column.combine_chunks().dictionary_encode()
    hashes = text_hashes(map(changed, encoded.dictionary.to_pylist()))
    return hashes[np.asarray(encoded.indices.to_numpy(), dtype=np.int64)]


def distinct(*columns: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """The distinct rows of columns of equal length, in ascending order."""
    order = np.lexsort(columns[::-1])
    ordered = [column[order] for column in columns]
    return [column[_begins(*ordered)] for column in ordered]


def repeats(*columns: NDArray[np.generic]) -> NDArray[np.int64]:
    """How often each distinct row appears, in ascending order of the rows."""
    order = np.lexsort(columns[::-1])
    begins = np.flatnonzero(_begins(*[column[order] for column in columns]))
    return np.diff(np.append(begins, len(order)))


def _begins(*ordered: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a run of equal rows begins."""
    new = np.ones(len(ordered[0]), dtype=bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in ordered], axis=0)
    return new
