from pathlib import Path

import pyarrow as pa
import pytest

from prefopt.data import withdrawn as lists
from prefopt.data.ids import digest
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn, add_to_store_list, annotator_id, read_store_list, read_withdrawn
from prefopt.errors import InputError

A, B, C = (digest(name) for name in "abc")
X, Y = "1" * 64, "2" * 64


def written(place: Path, content: str | bytes, name: str = "w.txt") -> str:
    (place / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(place / name)


def test_a_text_file_holds_an_entry_a_line(tmp_path: Path) -> None:
    text = f"\ufeff# asked for on Monday\n{A}\n\n  {B.upper()}  \r\nannotator: ann lee \n  # {C}\n"
    found = read_withdrawn(written(tmp_path, text))
    assert found == Withdrawn(frozenset({A, B}), frozenset({annotator_id("ann lee")}))
    assert "ann lee" not in "".join(found.entries)


def test_a_csv_file_holds_entries_in_its_first_column(tmp_path: Path) -> None:
    text = f'id,why\n# a comment,\n{A},"two\nlines"\n"annotator:b, c",x\n'
    found = read_withdrawn(written(tmp_path, text, "w.csv"))
    assert found == Withdrawn(frozenset({A}), frozenset({annotator_id("b, c")}))
    assert read_withdrawn(written(tmp_path, f"{A}\n", "n.csv")).ids == {A}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (f"{A}\n\nnonsense\n", r"w\.txt line 3: 'nonsense' is no id.*32 hex digits"),
        ("annotator:\n", "line 1: 'annotator:' is no id"),
        (f"{A} {B}\n", "line 1"),
        (A[:-1], "line 1"),
        (A.encode() + b"\n\xff\xfe\n", r"w\.txt line 2: this is not UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str | bytes, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_withdrawn(written(tmp_path, content))


def test_a_missing_or_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"There is no file .*gone\.txt"):
        read_withdrawn(str(tmp_path / "gone.txt"))
    monkeypatch.setattr(lists, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="has 33 bytes"):
        read_withdrawn(written(tmp_path, f"{A}\n"))


def test_the_key_is_free_of_order_comments_and_of_how_an_annotator_is_written(tmp_path: Path) -> None:
    one = read_withdrawn(written(tmp_path, f"{A}\n{B}\nannotator:ann\n", "1.txt"))
    two = read_withdrawn(written(tmp_path, f"# x\nannotator#{annotator_id('ann')}\n{B}\n{A}\n{A}\n", "2.txt"))
    assert one.key == two.key
    assert one.key != read_withdrawn(written(tmp_path, f"{A}\n", "3.txt")).key
    assert read_withdrawn(written(tmp_path, "# nothing yet\n", "4.txt")).key is None


def test_rows_are_hit_by_pair_image_and_annotator() -> None:
    rows = pa.table(
        {
            "pair_id": [A, B, C, C, C],
            "image_0": [X[:32], X[:32], Y[:32], "", ""],
            "image_1": ["", "", X[:32], "", ""],
            "annotator": ["", "", "", "ann", ""],
        }
    )
    assert Withdrawn(frozenset({A}), frozenset({annotator_id("ann")})).hits(rows).to_pylist() == [1, 0, 0, 1, 0]
    assert Withdrawn(frozenset({X[:32]})).hits(rows).to_pylist() == [1, 1, 1, 0, 0]
    nobody = Withdrawn(frozenset(), frozenset({annotator_id("")}))
    assert nobody.hits(rows).to_pylist() == [0] * 5, "unnamed annotators are not one person"
    assert Withdrawn(frozenset({A})).hits(rows.slice(0, 0)).to_pylist() == []


def test_a_stores_lists_are_only_added_to(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    ann = f"annotator#{annotator_id('ann')}"
    assert read_store_list(store).all == Withdrawn()
    first = add_to_store_list(store, {A: [X], ann: []})
    assert first is not None
    assert add_to_store_list(store, {A: [X], ann: []}) is None
    assert add_to_store_list(store, {A: [], ann: [Y]}) not in (None, first)
    found = read_store_list(store)
    assert found.files == {A: {X}, ann: {Y}}
    assert found.touching([X]) == Withdrawn(frozenset({A}))
    assert found.touching(["3" * 64]) == Withdrawn()
    assert read_withdrawn(str(tmp_path / first)).entries == [A, ann], "a list can be given to another config"


def test_a_damaged_store_list_is_named(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    store.write_bytes("withdrawn/x.csv", f"id,files\n{A},short\n".encode())
    with pytest.raises(InputError, match=r"withdrawn/x\.csv line 2 is damaged"):
        read_store_list(store)
