"""The history of champions: on a local disk and on an object store."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.registry import Champion, ConflictError, Registry, Watermark
from tests.kit.champions import places


def champion(name: str) -> Champion:
    return Champion(run=f"runs/{name}", train=name * 64, digest=name * 64)


A, B, C = (champion(name) for name in "abc")


def as_it_was(model: Champion, what: str) -> None:
    """Made-up champions have no files to verify."""


@pytest.fixture(scope="module", params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with places(request.param, tmp_path_factory.mktemp("registry")) as uri:
        yield uri


@pytest.fixture
def registry(root: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(f"{root}/{request.node.originalname}")


def test_an_empty_registry_has_no_champion(registry: Registry) -> None:
    assert registry.history() == []
    assert registry.champion() is None
    with pytest.raises(InputError, match="no earlier champion"):
        registry.rollback(None, by="ann", reason="")


def test_promotions_proposals_and_rollbacks(registry: Registry) -> None:
    registry.add([], "promote", A, by="ann")
    registry.add(registry.history(), "propose", B, by="nightly", decision="decisions/1.json")
    assert registry.champion() == A
    registry.add(registry.history(), "promote", B, by="ann", reason="better")
    registry.add(registry.history(), "reject", C, by="nightly")
    registry.add(registry.history(), "nothing", None, by="nightly")
    assert registry.champion() == B
    registry.rollback(None, by="ben", reason="users complain", check=as_it_was)
    assert registry.champion() == A
    registry.rollback(3, by="ben", reason="they were wrong", check=as_it_was)
    assert registry.champion() == B
    told = [(one.number, one.action, one.by) for one in registry.history()]
    assert told[-2:] == [(6, "rollback", "ben"), (7, "rollback", "ben")]
    for number in (2, 4, 5, 8):
        with pytest.raises(InputError, match=f"record {number} chose no champion"):
            registry.rollback(number, by="ben", reason="", check=as_it_was)


def test_rollbacks_go_back_one_by_one(registry: Registry) -> None:
    for model in (A, B, A, C):
        registry.add(registry.history(), "promote", model, by="ann")
    for expected in (A, B, A):
        registry.rollback(None, by="ben", reason="", check=as_it_was)
        assert registry.champion() == expected
    with pytest.raises(InputError, match="no earlier champion"):
        registry.rollback(None, by="ben", reason="", check=as_it_was)
    registry.add(registry.history(), "promote", B, by="ann")
    registry.rollback(None, by="ben", reason="", check=as_it_was)
    assert registry.champion() == A


def test_a_rollback_to_files_that_changed_writes_nothing(registry: Registry) -> None:
    for model in (A, B):
        registry.add(registry.history(), "promote", model, by="ann")
    with pytest.raises(InputError, match=r"The former champion in runs/a/train/a{12} is not what was promoted"):
        registry.rollback(None, by="ben", reason="")
    assert len(registry.history()) == 2
    assert registry.champion() == B


def test_of_two_decisions_at_once_one_wins_and_the_other_is_told(registry: Registry) -> None:
    registry.add([], "promote", A, by="ann")
    seen = registry.history()
    registry.add(seen, "promote", B, by="first")
    with pytest.raises(ConflictError, match=r"first wrote a promote.*Nothing was changed"):
        registry.add(seen, "promote", C, by="second")
    assert registry.champion() == B
    assert len(registry.history()) == 2


def test_of_many_writers_at_once_exactly_one_wins(registry: Registry) -> None:
    def write(number: int) -> bool:
        try:
            Registry(registry.uri).add([], "promote", A, by=f"job {number}")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(16))) == 1
    assert len(registry.history()) == 1


def test_damage_is_named_and_nothing_is_written(registry: Registry) -> None:
    for model in (A, B, C):
        registry.add(registry.history(), "promote", model, by="ann")
    storage = Storage(registry.uri)
    second = storage.read_bytes("records/00000002.json")
    for data, words in (
        (b"", r"00000002\.json is damaged"),
        (second[: len(second) // 2], r"00000002\.json is damaged"),
        (json.dumps({**json.loads(second), "at": "yesterday"}).encode(), r"00000002\.json is damaged"),
        (json.dumps({**json.loads(second), "by": "eve"}).encode(), r"00000003\.json does not follow"),
        (json.dumps({**json.loads(second), "schema_version": 9}).encode(), r"schema_version 9.*newer prefopt"),
        (json.dumps({**json.loads(second), "extra": 1}).encode(), r"00000002\.json is damaged"),
    ):
        storage.write_bytes("records/00000002.json", data)
        with pytest.raises(InputError, match=words):
            registry.champion()
        with pytest.raises(InputError, match=words):
            registry.rollback(None, by="ben", reason="", check=as_it_was)
        assert len(storage.files("records")) == 3
    storage.delete("records/00000002.json")
    with pytest.raises(InputError, match=r"expected records/00000002\.json and found records/00000003\.json"):
        registry.champion()
    storage.write_bytes("records/00000002.json", second)
    assert registry.champion() == C


def test_the_order_is_by_number_whatever_clocks_say(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    class Clock(datetime):
        years = iter((2031, 2019))

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(next(cls.years), 1, 1, tzinfo=UTC)

    monkeypatch.setattr("prefopt.registry.registry.datetime", Clock)
    registry.add([], "promote", A, by="fast clock")
    registry.add(registry.history(), "promote", B, by="slow clock")
    assert registry.champion() == B


def test_a_file_is_created_once(root: str) -> None:
    storage = Storage(f"{root}/created")
    assert storage.create("x/y", b"first")
    assert not storage.create("x/y", b"second")
    assert storage.read_bytes("x/y") == b"first"
    assert storage.files() == ["x/y"]


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.create("y", b"first")
    storage.create("y", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


def test_a_truncated_last_record_is_named_and_can_be_moved_away(registry: Registry) -> None:
    for model in (A, B):
        registry.add(registry.history(), "promote", model, by="ann")
    storage = Storage(registry.uri)
    last = "records/00000002.json"
    storage.write_bytes(last, storage.read_bytes(last)[:-20])
    with pytest.raises(InputError, match=r"00000002\.json is damaged.*Nothing was changed.*move it away"):
        registry.history()
    storage.delete(last)
    assert registry.champion() == A
    registry.add(registry.history(), "promote", C, by="ann")
    assert registry.champion() == C


def test_an_unfinished_write_of_a_killed_process_does_not_matter(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path))
    registry.add([], "promote", A, by="ann")
    (tmp_path / "records" / ".tmp-abc").write_bytes(b'{"number": 2, ')
    assert registry.champion() == A
    registry.add(registry.history(), "promote", B, by="ann")
    assert [record.model for record in registry.history()] == [A, B]


def test_a_record_notes_which_data_were_read(registry: Registry) -> None:
    seen = Watermark(ingest="1" * 64, votes=12, newest="2031-05-01T11:00:00+00:00")
    registry.add([], "promote", A, by="nightly", seen=seen)
    registry.add(registry.history(), "nothing", None, by="nightly", seen=Watermark(ingest="2" * 64, votes=0))
    assert [record.seen for record in registry.history()] == [seen, Watermark(ingest="2" * 64, votes=0, newest=None)]
    for wrong in (
        {"ingest": "x", "votes": 1},
        {"ingest": "1" * 64, "votes": -1},
        {"ingest": "1" * 64, "votes": 1, "newest": "2031-05-01T11:00:00"},
        {"ingest": "1" * 64, "votes": 1, "newest": "2031-05-01T11:00:00+02:00"},
        {"ingest": "1" * 64, "votes": 1, "more": 1},
    ):
        with pytest.raises(ValidationError):
            Watermark.model_validate(wrong)


def test_records_from_before_watermarks_are_read(registry: Registry) -> None:
    first = {
        "action": "promote",
        "at": "2031-05-01T11:00:00+00:00",
        "by": "ann",
        "decision": None,
        "model": A.model_dump(),
        "number": 1,
        "previous": None,
        "reason": "",
        "schema_version": 1,
    }
    old = (json.dumps(first, indent=1, sort_keys=True) + "\n").encode()
    second = {**first, "number": 2, "previous": hashlib.sha256(old).hexdigest()}
    storage = Storage(registry.uri)
    storage.write_bytes("records/00000001.json", old)
    storage.write_bytes("records/00000002.json", json.dumps(second).encode())
    assert [record.seen for record in registry.history()] == [None, None]
    assert registry.history()[0].encoded() == old
