"""The two commands: options checked before any work, lines and one JSON object."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefopt.cli.app import app
from prefopt.errors import ConfigError, InputError
from prefopt.registry import Registry, champion_of
from tests.kit.data import distinct
from tests.kit.retention import MadeRun, age, make_run, snapshot


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return make_run(tmp_path, "run", distinct(4))


def said(*arguments: object) -> str:
    """What a command says; its error is raised."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def answered(*arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(*arguments, "--json").splitlines()[-1])
    return answer


def refused(*arguments: object) -> str:
    with pytest.raises((ConfigError, InputError)) as error:
        said(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_arguments_are_said_before_anything_changes(made: MadeRun, tmp_path: Path) -> None:
    store, before = tmp_path / "store", snapshot(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "how many of the newest" in refused("gc", made.place, "--keep", "some", "--store", store)
    assert "is no run directory" in refused("gc", tmp_path / "empty", "--keep", 1, "--store", store)
    assert "given twice" in refused("gc", made.place, f"{made.place}/", "--keep", 1, "--store", store)
    assert "is empty or not there" in refused("gc", made.place, "--keep", 1, "--store", tmp_path / "nowhere")
    assert "is a run directory" in refused("gc", made.place, "--keep", 1, "--store", made.place)
    assert "holds no record" in refused("gc", made.place, "--keep", 1, "--store", store, "--registry", tmp_path / "r")
    assert "needs ids" in refused("forget", "--store", store)
    assert "argument 2: 'x' is no id" in refused("forget", "0" * 32, "x", "--store", store)
    assert "There is no file" in refused("forget", "--file", tmp_path / "no.txt", "--store", store)
    (tmp_path / "empty").rmdir()
    assert snapshot(tmp_path) == before


def test_forget_says_what_goes_and_what_stays(made: MadeRun, tmp_path: Path) -> None:
    pair = made.pair("prompt 2")["pair_id"]
    (tmp_path / "w.txt").write_text(f"{pair}\n")
    registry = Registry(str(tmp_path / "registry"))
    registry.add([], "promote", champion_of(str(made.place)), by="a")
    common = ("forget", "--file", tmp_path / "w.txt", "--store", tmp_path / "store", "--registry", registry.uri)
    planned = said(*common, "--dry-run")
    assert "Would be erased: 1 pairs, 1 votes, 2 images, 1 prompts." in planned
    assert "was trained on it (2 visits); records of the registry: 1 promote." in planned
    assert "A model cannot be made to forget" in planned
    assert "The source x.parquet holds the data still: rows 2." in planned
    answer = answered(*common)
    assert (answer["dry_run"], answer["pairs"], answer["store"]["x0"]["rows"]) == (False, 1, 4)
    assert [model["run"] for model in answer["models"]] == [str(made.place)], "the store knows the run"
    assert answer["listed"].startswith("withdrawn/")
    assert said("verify", made.place).endswith("0 files differ.\n")


def test_gc_lists_bytes_by_kind(made: MadeRun, tmp_path: Path) -> None:
    other = make_run(tmp_path, "other", distinct(3, start=30), model="second")
    age(tmp_path, 3)
    age(made.place, 5)
    common = ("gc", made.place, other.place, "--keep", 1, "--store", tmp_path / "store")
    planned = said(*common, "--dry-run")
    assert f"Kept: {other.place} (among the newest 1)." in planned
    assert f"Would go: {made.place}, the whole run." in planned
    assert "Would go: store x0: 16 rows" in planned
    answer = answered(*common)
    assert answer["removed_runs"] == [str(made.place)]
    assert answer["removed"]["store x0"]["rows"] == 16
    assert answer["bytes"] == sum(removed["bytes"] for removed in answer["removed"].values()) > 0
    assert "Freed: 0 bytes." in said("gc", other.place, "--keep", "all", "--store", tmp_path / "store")
