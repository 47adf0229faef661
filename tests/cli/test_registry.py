"""`prefopt registry`: the history, decisions by hand, and the proof that a champion is what was promoted."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefopt import cli
from prefopt.data.storage import Storage
from prefopt.registry import Registry
from tests.kit.champions import places, trained_run, weights_of

Prefopt = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with places(request.param, tmp_path_factory.mktemp("registry")) as uri:
        yield uri


@pytest.fixture
def place(root: str, request: pytest.FixtureRequest) -> str:
    return f"{root}/{request.node.originalname}"


@pytest.fixture
def prefopt(place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prefopt:
    """Runs `prefopt registry` on a registry of its own; gives exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefopt", "registry", *arguments, "--registry", f"{place}/registry"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def runs(place: str) -> list[str]:
    return [trained_run(place, name) for name in ("one", "two", "three")]


def damage(run: str) -> bytes:
    """Change a bit of a run's weights; gives the bytes before."""
    storage, file = Storage(run), weights_of(run)
    before = storage.read_bytes(file)
    storage.write_bytes(file, bytes([before[0] ^ 1]) + before[1:])
    return before


def test_an_empty_registry_says_what_to_do(prefopt: Prefopt) -> None:
    code, out, _ = prefopt("list")
    assert (code, out.strip().endswith("nothing was promoted yet, or the registry is elsewhere.")) == (0, True)
    assert json.loads(prefopt("list", "--json")[1]) == {"champion": None, "records": []}
    code, _, err = prefopt("show")
    assert code == 3
    assert "has no champion yet. prefopt registry promote RUN --by NAME" in err
    code, _, err = prefopt("rollback", "--by", "ann")
    assert code == 3
    assert "no earlier champion" in err


def test_promote_show_and_roll_back(prefopt: Prefopt, runs: list[str]) -> None:
    for run in runs:
        code, out, _ = prefopt("promote", run, "--by", "ann", "--reason", "nicer\nimages")
        assert code == 0
        assert f"promote  {run} (" in out
        assert out.endswith("by ann: nicer images\n")
    code, out, _ = prefopt("show")
    assert code == 0
    assert f"Run: {runs[2]}\n" in out
    assert out.endswith("Files: the same, byte for byte\n")
    assert prefopt("rollback", "--by", "ben", "--reason", "users complain")[0] == 0
    assert json.loads(prefopt("show", "--json")[1])["record"]["model"]["run"] == runs[1]
    assert prefopt("rollback", "--by", "ben")[0] == 0
    shown = json.loads(prefopt("show", "--json")[1])
    assert shown["record"]["model"]["run"] == runs[0]
    assert (shown["verified"], shown["problems"]) == (True, [])
    assert prefopt("rollback", "--by", "ben")[0] == 3
    assert prefopt("rollback", "3", "--by", "ben")[0] == 0
    told = json.loads(prefopt("list", "--json")[1])
    assert told["champion"] == 6
    assert [one["action"] for one in told["records"]] == ["promote"] * 3 + ["rollback"] * 3
    lines = prefopt("list")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert lines[3].endswith(f"rollback  {runs[1]} ({shown_digest(told, 3)})  by ben: users complain")


def shown_digest(told: dict[str, list[dict[str, dict[str, str]]]], index: int) -> str:
    return told["records"][index]["model"]["digest"][:12]


def test_changed_weights_are_not_promoted(prefopt: Prefopt, runs: list[str], place: str) -> None:
    before = damage(runs[0])
    code, _, err = prefopt("promote", runs[0], "--by", "ann")
    assert code == 3
    assert "is not what its training wrote: model/" in err
    assert Registry(f"{place}/registry").history() == []
    Storage(runs[0]).write_bytes(weights_of(runs[0]), before)
    assert prefopt("promote", runs[0], "--by", "ann")[0] == 0


def test_no_rollback_to_changed_or_missing_weights(prefopt: Prefopt, runs: list[str], place: str) -> None:
    for run in runs[:2]:
        prefopt("promote", run, "--by", "ann")
    weights, before = weights_of(runs[0]), damage(runs[0])
    for arguments in (("rollback",), ("rollback", "1")):
        code, _, err = prefopt(*arguments, "--by", "ben")
        assert code == 3
        assert "The former champion in" in err
        assert "is not what was promoted" in err
    Storage(runs[0]).delete(weights)
    assert prefopt("rollback", "--by", "ben")[0] == 3
    assert len(Registry(f"{place}/registry").history()) == 2
    Storage(runs[0]).write_bytes(weights, before)
    assert prefopt("rollback", "--by", "ben")[0] == 0
    assert Storage(runs[0]).read_bytes(weights) == before


def test_show_says_when_the_champion_is_not_what_it_was(prefopt: Prefopt, runs: list[str]) -> None:
    for run in runs[:2]:
        prefopt("promote", run, "--by", "ann")
    damage(runs[1])
    code, out, _ = prefopt("show")
    assert code == 3
    assert "content differs from the manifest" in out
    assert prefopt("show", "1")[0] == 0
    shown = json.loads(prefopt("show", "2", "--json")[1])
    assert shown["verified"] is False
    code, _, err = prefopt("show", "3")
    assert code == 3
    assert "no record 3" in err


def test_a_decision_has_a_name(prefopt: Prefopt, runs: list[str]) -> None:
    for arguments in (("promote", runs[0]), ("promote", runs[0], "--by", " \n"), ("rollback",)):
        code, _, err = prefopt(*arguments)
        assert code == 2
        assert "give --by NAME" in err
    assert "--by has 201 characters" in prefopt("promote", runs[0], "--by", "x" * 201)[2]
    assert "--reason has 4001 characters" in prefopt("promote", runs[0], "--by", "x", "--reason", "y" * 4001)[2]
    assert prefopt("promote", runs[0], "--by", "x" * 200, "--reason", "y" * 4000)[0] == 0


def test_a_history_cannot_steer_the_terminal(prefopt: Prefopt, runs: list[str]) -> None:
    _, out, _ = prefopt("promote", runs[0], "--by", "ann\x1b[2J", "--reason", "why\x07\nnot")
    assert out.endswith("by ann?[2J: why? not\n")
    assert "\x1b" not in prefopt("list")[1]


def test_a_run_without_a_model_is_refused(prefopt: Prefopt, tmp_path: Path) -> None:
    code, _, err = prefopt("promote", str(tmp_path), "--by", "ann")
    assert code == 3
    assert "no finished train stage" in err
    (tmp_path / "run.json").write_text('{"train": "abc')
    code, _, err = prefopt("promote", str(tmp_path), "--by", "ann")
    assert code == 3
    assert "run.json is damaged" in err


def test_a_relative_place_is_recorded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_run(str(tmp_path), "one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prefopt", "registry", "promote", "one", "--by", "ann", "--registry", "registry"])
    with pytest.raises(SystemExit):
        cli.main()
    champion = Registry("registry").champion()
    assert champion is not None
    assert champion.run == str(tmp_path / "one")
    capsys.readouterr()
