from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.hashes import column_hashes, distinct, id_hashes, repeats
from prefopt.data.ids import digest

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


def columns(rows: list[tuple[int, int]]) -> list[np.ndarray]:
    return [np.array([row[at] for row in rows], dtype=np.uint64) for at in (0, 1)]


@given(ROWS)
def test_distinct_rows_and_their_repeats(rows: list[tuple[int, int]]) -> None:
    counts = Counter(rows)
    first, second = distinct(*columns(rows))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(counts)
    assert repeats(*columns(rows)).tolist() == [counts[row] for row in sorted(counts)]


def test_ids_keep_their_first_64_bits() -> None:
    ids = [digest("a"), digest("b")]
    assert id_hashes(pa.chunked_array([ids])).tolist() == [int(one[:16], 16) for one in ids]
    assert id_hashes(pa.chunked_array([[]], pa.string())).tolist() == []


def test_equal_changed_texts_have_equal_hashes() -> None:
    column = pa.chunked_array([["A", "b", "a"], ["B"]])
    hashes = column_hashes(column, str.lower).tolist()
    assert hashes[0] == hashes[2] != hashes[1] == hashes[3]
    assert len(set(column_hashes(column).tolist())) == 4
