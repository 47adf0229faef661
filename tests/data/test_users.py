import platform
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.data.users import note_user, users
from prefopt.errors import InputError


def test_each_run_is_noted_once_wherever_it_is_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storage(str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a", str(tmp_path / "runs" / "a"), "runs/a/"):
        note_user(store, Storage(name))
    note_user(store, Storage("runs/b"))
    found = {user.run: user for user in users(store)}
    assert found.keys() == {str(tmp_path / "runs" / name) for name in "ab"}
    assert all(user.here for user in found.values())


def test_a_run_of_another_machine_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storage(str(tmp_path / "store"))
    note_user(store, Storage(str(tmp_path / "a")))
    monkeypatch.setattr(platform, "node", lambda: "another")
    (user,) = users(store)
    assert not user.here


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    store.write_bytes("runs/x.json", b"[]")
    with pytest.raises(InputError, match=r"runs/x\.json is damaged"):
        users(store)
