"""The history of champions: on a local disk and on an object store."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.registry import Champion, ConflictError, Registry
from tests.kit.s3 import object_store


def champion(name: str) -> Champion:
    return Champion(run=f"runs/{name}", train=name * 64, digest=name * 64)


A, B, C = (champion(name) for name in "abc")


@pytest.fixture(scope="module", params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path_factory.mktemp("registry"))
        return
    with object_store() as uri:
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
    registry.rollback(None, by="ben", reason="users complain")
    assert registry.champion() == A
    registry.rollback(3, by="ben", reason="they were wrong")
    assert registry.champion() == B
    told = [(one.number, one.action, one.by) for one in registry.history()]
    assert told[-2:] == [(6, "rollback", "ben"), (7, "rollback", "ben")]
    for number in (2, 4, 5, 8):
        with pytest.raises(InputError, match=f"record {number} chose no champion"):
            registry.rollback(number, by="ben", reason="")


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
        (second[: len(second) // 2], r"00000002\.json is damaged"),
        (json.dumps({**json.loads(second), "by": "eve"}).encode(), r"00000003\.json does not follow"),
        (json.dumps({**json.loads(second), "schema_version": 9}).encode(), r"schema_version 9.*newer prefopt"),
        (json.dumps({**json.loads(second), "extra": 1}).encode(), r"00000002\.json is damaged"),
    ):
        storage.write_bytes("records/00000002.json", data)
        with pytest.raises(InputError, match=words):
            registry.champion()
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
