"""The train stage, on Ray Train and in this process."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training import on_ray
from prefopt.errors import ConfigError, GuardError, InputError
from prefopt.stages import train
from prefopt.stages.base import StageContext, StageResult
from tests.kit.models import tiny_pipeline
from tests.kit.training import Reported, read_steps, training_config, training_context, with_workers

ADAPTIVE: dict[str, Any] = {"objective": {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("stage") / "model")


@pytest.fixture(scope="module")
def ran(ray_session: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageContext, StageResult]:
    root = tmp_path_factory.mktemp("train")
    context = training_context(root, training_config(model, root / "store", workers=2, **ADAPTIVE))
    return context, train.run(context)


def here(config: RunConfig) -> RunConfig:
    """The same config without Ray."""
    cluster = config.cluster.model_copy(update={"engine": "process"})
    return with_workers(config, 1).model_copy(update={"cluster": cluster})


def test_outputs(ran: tuple[StageContext, StageResult]) -> None:
    context, result = ran
    assert {"steps.jsonl", "minority.parquet", "model/model_index.json"} <= set(result.files)
    assert all(context.output.size(file) for file in result.files)
    assert not [file for file in result.files if file.startswith("work/")]
    assert result.rows.in_ == result.rows.out == 48
    assert result.summary["margin_scale"] == "published"
    progress = context.progress
    assert isinstance(progress, Reported)
    assert progress.done == context.config.train.steps


def test_files_tell_no_time_no_host_and_no_place(ran: tuple[StageContext, StageResult], tmp_path: Path) -> None:
    context, result = ran
    again = training_context(tmp_path, here(context.config))
    assert train.run(again).files == result.files
    for file in result.files:
        content = context.output.read_bytes(file)
        assert hashlib.sha256(content).digest() == hashlib.sha256(again.output.read_bytes(file)).digest()
        assert context.output.uri.encode() not in content


def test_a_finished_run_trains_no_further(ran: tuple[StageContext, StageResult]) -> None:
    context, result = ran
    before = {file: context.output.read_bytes(file) for file in result.files}
    for file in result.files:
        context.output.delete(file)
    (checkpoint,) = Path(context.output.path("work/checkpoints")).glob("step-00000006.*/manifest.json")
    written = checkpoint.stat().st_mtime_ns
    assert train.run(replace(context, config=here(context.config))).files == result.files
    assert {file: context.output.read_bytes(file) for file in result.files} == before
    assert checkpoint.stat().st_mtime_ns == written


def test_pairs_outside_the_training_split_are_refused(model: Path, tmp_path: Path) -> None:
    context = training_context(tmp_path, training_config(model, tmp_path / "store"), split="validation")
    with pytest.raises(InputError, match="of the validation split"):
        train.run(context)


@pytest.mark.parametrize("where", [pytest.param("ray", marks=pytest.mark.slow), "process"])
def test_a_workers_refusal_is_told_as_it_is(
    where: str, request: pytest.FixtureRequest, model: Path, tmp_path: Path
) -> None:
    if where == "ray":
        request.getfixturevalue("ray_session")
    config = training_config(model, tmp_path / "store", steps=1)
    context = training_context(tmp_path, config if where == "ray" else here(config))
    with pytest.raises(InputError, match="run the score stage"):
        train.run(replace(context, store=Storage(str(tmp_path / "empty"))))


@pytest.mark.parametrize("where", [pytest.param("ray", marks=pytest.mark.slow), "process"])
def test_a_guard_stops_a_diverging_run(where: str, request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> None:
    if where == "ray":
        request.getfixturevalue("ray_session")
    config = training_config(model, tmp_path / "store", optimizer={"lr": 1e30})
    with pytest.raises(GuardError, match="5 steps in a row were skipped"):
        train.run(training_context(tmp_path, config if where == "ray" else here(config)))


def test_zero_3_on_one_worker_is_warned_of(
    ray_session: None, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = training_config(model, tmp_path / "store", zero=3)
    job, _ = train.prepare(training_context(tmp_path, config))
    on_ray._trainer(job)
    assert "nothing is sharded" in caplog.text
    caplog.clear()
    on_ray._trainer(replace(job, config=training_config(model, tmp_path / "store", zero=3, workers=2)))
    assert not caplog.text


def test_zero_3_in_one_process_is_refused(model: Path, tmp_path: Path) -> None:
    config = here(training_config(model, tmp_path / "store", zero=3))
    with pytest.raises(ConfigError, match=r"train\.zero 3 .* cluster\.engine process has one"):
        train.run(training_context(tmp_path, config))


def test_more_workers_than_the_local_ray_holds_are_refused(ray_session: None, model: Path, tmp_path: Path) -> None:
    config = training_config(model, tmp_path / "store", global_batch=64, workers=16)
    with pytest.raises(ConfigError, match=r"train\.workers 16"):
        train.run(training_context(tmp_path, config))


def test_steps_are_counted_once(ran: tuple[StageContext, StageResult]) -> None:
    lines = read_steps(Path(ran[0].output.path("")))
    assert [line["step"] for line in lines] == list(range(1, 7))
