"""`prefopt lab` on outcomes that are there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefopt.cli.app import app
from prefopt.config.lab import LabConfig
from prefopt.data.storage import Storage
from prefopt.errors import GuardError, WorkerError
from prefopt.lab.cells import every_cell
from prefopt.lab.ledger import Ledger
from tests.kit.laboratories import Hands, loaded, made
from tests.kit.s3 import object_store

DIVERGED = GuardError("The loss is not finite since step 3.")
HOT = "dpo, clean, seed 7, candidate 1"


@pytest.fixture(autouse=True)
def session_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own Ray outlives a command."""
    monkeypatch.setattr("prefopt.distributed.session.stop_ray", lambda: None)


def ready(place: Path, file: str, **branches: Any) -> LabConfig:
    """A laboratory whose grid is in a file of outcomes."""
    config = loaded(place, **branches)
    ledger = Ledger(file)
    for cell in every_cell(config):
        ledger.keep(made(config, cell))
    return config


def lab(place: Path, *options: str) -> str:
    """What the command writes to standard output."""
    result = CliRunner().invoke(app, ["lab", str(place / "lab.yaml"), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def made_by(page: str) -> list[str]:
    (line,) = re.findall(r"Made by (.+)\.$", page, re.MULTILINE)
    return shlex.split(line)


def test_the_page_of_ready_outcomes_is_written_without_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready(tmp_path, str(tmp_path / "lab" / "outcomes.jsonl"))
    monkeypatch.chdir(tmp_path)
    answer = json.loads(lab(tmp_path, "--run-dir", "lab", "--minutes", "0", "--json").splitlines()[-1])
    chosen = {"dpo": 0, "adaptive_dpo": 0}
    assert answer == {"cells": 4, "done": 4, "failed": 0, "chosen": chosen, "waiting": {}, "page": "lab/lab.md"}
    page = (tmp_path / "lab" / "lab.md").read_text()
    assert "## Claims" in page
    assert all((tmp_path / "lab" / name).is_file() for name in re.findall(r"\]\(([a-z-]+\.svg)\)", page))
    assert not list((tmp_path / "lab").rglob("manifest.json"))


def test_the_pages_command_names_the_run_directory_where_outcomes_lie_in_it(tmp_path: Path) -> None:
    place, page = str(tmp_path / "lab"), tmp_path / "page"
    ready(tmp_path, f"{place}/outcomes.jsonl")
    lab(tmp_path, "--minutes", "0", "--run-dir", place, "--page", str(page), "--set", "page.title=A b")
    command = made_by((page / "lab.md").read_text())
    options = ["--run-dir", place, "--set", "page.title=A b", "--page", str(page)]
    assert command == ["prefopt", "lab", str(tmp_path / "lab.yaml"), *options]
    before = (page / "lab.md").read_bytes()
    lab(tmp_path, *options, "--minutes", "0")
    assert (page / "lab.md").read_bytes() == before, "the command makes the same page"


def test_the_pages_command_names_no_run_directory_that_means_nothing_for_it(tmp_path: Path) -> None:
    ready(tmp_path, str(tmp_path / "kept.jsonl"), outcomes="kept.jsonl")
    told = lab(tmp_path, "--minutes", "0", "--run-dir", str(tmp_path / "lab"))
    assert f"4 of 4 cells are done. Page: {tmp_path}/lab/lab.md" in told
    assert made_by((tmp_path / "lab" / "lab.md").read_text()) == ["prefopt", "lab", str(tmp_path / "lab.yaml")]


def test_a_run_directory_on_an_object_store_holds_the_page(tmp_path: Path) -> None:
    with object_store() as bucket:
        place = f"{bucket}/lab"
        ready(tmp_path, f"{place}/outcomes.jsonl")
        assert f"Page: {place}/lab.md" in lab(tmp_path, "--minutes", "0", "--run-dir", place)
        assert b"## Claims" in Storage(place).read_bytes("lab.md")


def test_a_candidate_that_fails_ends_the_command_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = {"dpo": {"set": {"train.objective": {"name": "dpo"}}}}
    tuning = {"noise": "clean", "seeds": [7], "candidates": {"train.optimizer.lr": [1e-5, 1.0]}}
    config = loaded(tmp_path, methods=methods, tuning=tuning)
    monkeypatch.setattr("prefopt.lab.lab.hired", Hands(config, errors={HOT: DIVERGED}).hired)
    arguments = ["lab", str(tmp_path / "lab.yaml"), "--run-dir", str(tmp_path / "lab"), "--json"]
    result = CliRunner().invoke(app, arguments)
    answer = json.loads(result.stdout.splitlines()[-1])
    assert (answer["cells"], answer["done"], answer["failed"]) == (4, 1, 1)
    assert answer["waiting"] == {"dpo": [HOT]}
    assert isinstance(result.exception, WorkerError)
    assert str(DIVERGED) in str(result.exception)
    assert "change it in tuning.candidates" in str(result.exception)


def test_a_ray_address_reaches_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hands = Hands(loaded(tmp_path))
    monkeypatch.setattr("prefopt.lab.lab.hired", hands.hired)
    lab(tmp_path, "--run-dir", str(tmp_path / "lab"), "--ray-address", "10.0.0.1:6379")
    assert hands.cluster
    assert hands.cluster.address == "10.0.0.1:6379"
