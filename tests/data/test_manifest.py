from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefopt.data.manifest import (
    MANIFEST,
    Manifest,
    Rows,
    commit_manifest,
    describe_file,
    is_complete,
    read_manifest,
    stage_key,
    verify,
)
from prefopt.data.storage import Storage
from prefopt.errors import InputError

KEY = "k" * 64


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A finished stage of two files."""
    storage = Storage(str(tmp_path))
    storage.write_bytes("pairs-0.parquet", b"abc")
    storage.write_bytes("votes-0.parquet", b"defg")
    commit_manifest(storage, manifest(storage))
    return storage


def manifest(storage: Storage) -> Manifest:
    return Manifest(
        stage="ingest",
        key=KEY,
        parents={},
        config_hash="c",
        code_version=1,
        commit="unknown",
        environment={"torch": "0"},
        unit="vote",
        rows=Rows(in_=3, out=2, quarantined=1),
        files=[describe_file(storage, name) for name in ("pairs-0.parquet", "votes-0.parquet")],
    )


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), trees, max_size=5))
def test_a_key_is_free_of_dictionary_order(tree: dict[str, object]) -> None:
    backwards = dict(reversed(tree.items()))
    parents = {"a": "1", "b": "2"}
    assert stage_key("s", 1, tree, parents) == stage_key("s", 1, backwards, dict(reversed(parents.items())))


def test_a_key_changes_with_everything_it_is_made_of() -> None:
    keys = [
        stage_key("s", 1, {"a": 1}, {"p": "x"}),
        stage_key("t", 1, {"a": 1}, {"p": "x"}),
        stage_key("s", 2, {"a": 1}, {"p": "x"}),
        stage_key("s", 1, {"a": 2}, {"p": "x"}),
        stage_key("s", 1, {"a": 1}, {"p": "y"}),
    ]
    assert len(set(keys)) == len(keys)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_no_row_is_lost(given_: int, out: int, quarantined: int) -> None:
    if given_ == out + quarantined:
        assert Rows(in_=given_, out=out, quarantined=quarantined).in_ == given_
    else:
        with pytest.raises(ValidationError, match="rows in"):
            Rows(in_=given_, out=out, quarantined=quarantined)


def test_a_manifest_comes_back_and_says_in(storage: Storage) -> None:
    assert read_manifest(storage) == manifest(storage)
    assert b'"in": 3' in storage.read_bytes(MANIFEST)
    assert read_manifest(storage).files_like("votes-") == ["votes-0.parquet"]


def test_a_file_is_described_by_size_and_sha256(storage: Storage) -> None:
    entry = describe_file(storage, "pairs-0.parquet")
    assert (entry.path, entry.bytes) == ("pairs-0.parquet", 3)
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_output_is_complete_with_its_key_and_all_files(storage: Storage) -> None:
    assert is_complete(storage, KEY)
    assert not is_complete(storage, "another")
    storage.write_bytes("pairs-0.parquet", b"ab")
    assert not is_complete(storage, KEY)
    storage.delete("pairs-0.parquet")
    assert not is_complete(storage, KEY)


def test_without_a_manifest_nothing_is_there(storage: Storage) -> None:
    storage.delete(MANIFEST)
    assert not is_complete(storage, KEY)
    with pytest.raises(InputError, match=r"has no manifest.json: the stage did not finish"):
        read_manifest(storage)


def test_verify_finds_a_changed_and_a_missing_file(storage: Storage) -> None:
    assert verify(storage) == []
    storage.write_bytes("pairs-0.parquet", b"abd")
    storage.delete("votes-0.parquet")
    assert verify(storage) == ["pairs-0.parquet: content differs from the manifest", "votes-0.parquet: missing"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"stage": "ingest"}', b"\xff\xfe", b'{"in": ' + b"[" * 5000])
def test_a_damaged_manifest_is_refused(storage: Storage, text: bytes) -> None:
    storage.write_bytes(MANIFEST, text)
    with pytest.raises(InputError, match="damaged"):
        read_manifest(storage)


def test_a_manifest_of_lost_rows_is_refused(storage: Storage) -> None:
    text = storage.read_bytes(MANIFEST).replace(b'"out": 2', b'"out": 1')
    storage.write_bytes(MANIFEST, text)
    with pytest.raises(InputError, match="rows in 3 != out 1"):
        read_manifest(storage)
