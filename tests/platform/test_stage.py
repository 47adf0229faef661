"""A stage of a pipeline: where it runs, and how its result is found."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, dump_config
from prefopt.errors import ConfigError, InputError
from prefopt.platform.jobs import JobError, job_name
from prefopt.platform.stage import run_stage
from tests.kit.components import finish_stage
from tests.kit.data import check_manifests, distinct, small_config, write_parquet
from tests.kit.pipelines import run_locally

NOBODY = "http://127.0.0.1:9"
"""The discard port, on which nothing listens."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_locally(tmp_path / "kfp", monkeypatch)
    write_parquet(tmp_path / "data.parquet", distinct(8))
    return tmp_path


def config(place: Path, **branches: Any) -> RunConfig:
    return small_config(place, [{"kind": "pickapic", "path": str(place / "data.parquet")}], **branches)


def test_a_stage_is_done_once_and_its_manifest_is_the_result(place: Path) -> None:
    text, run, told = dump_config(config(place)), str(place / "run"), list[str]()
    first = run_stage("ingest", text, run, tell=told.append)
    (manifest,) = check_manifests(run)
    assert (first.skipped, first.manifest, first.record["rows_out"]) == (False, manifest, 8)
    assert any(line.startswith("ingest: done") for line in told)
    told.clear()
    again = run_stage("ingest", text, run, tell=told.append)
    assert (again.skipped, again.manifest, told) == (True, manifest, [])


def test_a_job_that_leaves_no_manifest_has_failed(place: Path) -> None:
    def lose(line: str) -> None:
        if line.startswith("ingest: done"):
            shutil.rmtree(place / "run" / "ingest")

    with pytest.raises(JobError, match=r"prefopt-ingest-\w+ ended well, but .*holds no whole output of ingest"):
        run_stage("ingest", dump_config(config(place)), str(place / "run"), tell=lose)


def test_only_the_named_stages_are_submitted(place: Path) -> None:
    submit = {"kind": "ray", "address": NOBODY, "stages": ["score"]}
    settings = config(place, cluster={"engine": "ray", "submit": submit})
    text, run = dump_config(settings), place / "run"
    for stage in ("ingest", "inject"):
        finish_stage(settings, run, stage, {})
    with pytest.raises(JobError, match=f"Cannot reach a Ray cluster at {NOBODY}"):
        run_stage("score", text, str(run))
    (run / "ingest").rename(run / "gone")
    (place / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(JobError, match="prefopt ingest ended with exit code 3"):
        run_stage("ingest", text, str(run))


def test_where_a_stage_runs_changes_no_key(place: Path) -> None:
    run, elsewhere = place / "run", {"engine": "ray", "submit": {"kind": "ray", "address": NOBODY}}
    done = finish_stage(config(place), run, "score", {})
    assert run_stage("score", dump_config(config(place, cluster=elsewhere)), str(run)).uri == done.uri


def test_what_cannot_run_is_told_before_anything_is_submitted(place: Path) -> None:
    elsewhere = {"engine": "ray", "submit": {"kind": "ray", "address": NOBODY}}
    run, text = str(place / "run"), dump_config(config(place, cluster=elsewhere))
    with pytest.raises(InputError, match="train needs the output of ingest"):
        run_stage("train", text, run)
    with pytest.raises(ConfigError, match=r"'gate' is no stage .* It belongs to a night"):
        run_stage("gate", text, run)


def test_a_job_is_named_by_what_it_does_and_where() -> None:
    name = job_name("evaluate", "a" * 64, "s3://bucket/run")
    assert name == job_name("evaluate", "a" * 64, "s3://bucket/run")
    assert name not in (job_name("evaluate", "b" * 64, "s3://bucket/run"), job_name("evaluate", "a" * 64, "s3://other"))
    assert len(name) <= 47
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
