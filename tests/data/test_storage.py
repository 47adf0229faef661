import hashlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, StorageError
from tests.kit.s3 import object_store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "run"))
    return Storage(f"{request.getfixturevalue('bucket')}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()}")


def test_what_is_written_is_read_listed_and_deleted(storage: Storage) -> None:
    storage.check_writable()
    assert storage.files() == []
    storage.write_bytes("b/two", b"22")
    storage.write_bytes("a", b"1")
    assert storage.files() == ["a", "b/two"]
    assert storage.files("b") == ["b/two"]
    assert storage.child("b").files() == ["two"]
    assert storage.read_bytes("b/two") == b"22"
    assert [storage.size(name) for name in ("a", "b/two", "b", "c")] == [1, 2, None, None]
    assert storage.exists("b")
    assert not storage.exists("c")
    with storage.open_input("b/two") as stream:
        stream.seek(1)
        assert stream.read() == b"2"
    storage.delete("b")
    storage.delete("never there")
    assert storage.files() == ["a"]


def test_tables_come_back_and_give_the_same_bytes(storage: Storage) -> None:
    rows = pa.table({"name": ["x", "y"], "value": [1.5, 2.5]})
    storage.write_table("one.parquet", rows)
    storage.write_table("two.parquet", rows)
    assert storage.read_table("one.parquet").equals(rows)
    assert storage.read_table("one.parquet", ["value"]).column_names == ["value"]
    assert storage.read_bytes("one.parquet") == storage.read_bytes("two.parquet")


def _write_half(storage: Storage, name: str) -> None:
    with storage.open_output(name) as stream:
        stream.write(b"half")
        raise RuntimeError("interrupted")


def test_an_interrupted_write_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        _write_half(storage, "new")
    assert not storage.exists("new")
    storage.write_bytes("old", b"whole")
    with pytest.raises(RuntimeError, match="interrupted"):
        _write_half(storage, "old")
    assert storage.read_bytes("old") == b"whole"
    assert storage.files() == ["old"]


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        _write_half(Storage(str(tmp_path)), "new")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_write_is_not_listed(tmp_path: Path) -> None:
    with Storage(str(tmp_path)).open_output("new") as stream:
        stream.write(b"half")
        assert Storage(str(tmp_path)).files() == []
    assert Storage(str(tmp_path)).files() == ["new"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a/..", "a\\b"])
def test_paths_do_not_leave(storage: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="leaves"):
        storage.read_bytes(path)
    with pytest.raises(ValueError, match="leaves"):
        storage.child(path)


def test_a_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"read gone.txt in .*: there is no such file"):
        storage.read_bytes("gone.txt")


def test_a_file_in_the_way_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = Storage(str(tmp_path / "file" / "below"))
    with pytest.raises(ConfigError, match=r"Cannot write to .*a part of the path is a file"):
        below.check_writable()
    with pytest.raises(StorageError, match="list"):
        Storage(str(tmp_path / "file")).files()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_impossible_names_are_storage_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="look at"):
        Storage(str(tmp_path)).size(name)


def test_an_unknown_scheme_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="http://somewhere/x"):
        Storage("http://somewhere/x")


def test_an_unwritable_bucket_is_a_config_error(bucket: str) -> None:
    with pytest.raises(ConfigError, match="Cannot write to s3://no-such-bucket/x"):
        Storage("s3://no-such-bucket/x").check_writable()


def test_workers_find_the_same_place_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("run")
    storage.write_bytes("a", b"1")
    packed = pickle.dumps(storage)
    monkeypatch.chdir("/")
    assert pickle.loads(packed).read_bytes("a") == b"1"


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    Storage(str(tmp_path)).write_bytes("a", b"1")
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o644


def test_sweep_removes_what_a_killed_writer_left_and_nothing_else(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write_bytes("deep/kept.txt", b"whole")
    (tmp_path / "deep" / ".tmp-half").write_bytes(b"hal")
    storage.sweep()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept.txt"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_rows_are_read_without_the_row_groups_beside_them(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], data: st.DataObject
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("rows")))
    total = sum(groups)
    with storage.open_output("t.parquet") as stream, pq.ParquetWriter(stream, pa.schema({"n": pa.int64()})) as writer:
        for end, count in zip(np.cumsum(groups).tolist(), groups, strict=True):
            writer.write_table(pa.table({"n": range(end - count, end)}))
    start = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - start))
    assert storage.read_rows("t.parquet", start, count)["n"].to_pylist() == list(range(start, start + count))


def test_a_broken_row_group_elsewhere_does_not_matter(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write_table("t.parquet", pa.table({"n": range(300)}), row_group_size=100, compression="none")
    column = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0).column(0)
    whole = bytearray((tmp_path / "t.parquet").read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    whole[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    (tmp_path / "t.parquet").write_bytes(whole)
    assert storage.read_rows("t.parquet", 150, 100)["n"].to_pylist() == list(range(150, 250))
    with pytest.raises(StorageError, match=r"Cannot read t.parquet"):
        storage.read_rows("t.parquet", 50, 100)
