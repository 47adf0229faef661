"""Trackers: real TensorBoard files, and the calls that MLflow and Weights & Biases get."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training.trackers import check_trackers, open_trackers
from prefopt.errors import ConfigError
from tests.kit.s3 import object_store
from tests.kit.training import training_config

KEY = "fingerprint-of-a-run"


def config_with(tmp_path: Path, **trackers: Any) -> RunConfig:
    """A config with these trackers alone."""
    return training_config(tmp_path, tmp_path / "store", trackers={"tensorboard": False, **trackers})


def read_events(data: bytes) -> list[tuple[int, str, float]]:
    """(step, name, value) of the scalars of an event file: records of length, checksum, bytes, checksum."""
    found, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        place += 12 + size + 4
    return found


def purged(data: bytes) -> int | None:
    """From which step on an event file hides those of older ones."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + size])
        if event.HasField("session_log"):
            return int(event.step)
        place += 12 + size + 4
    return None


def events_below(logs: Storage) -> list[tuple[int, str, float]]:
    return [event for file in logs.files("tensorboard") for event in read_events(logs.read_bytes(file))]


def test_tensorboard_files_hold_the_figures(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path / "logs"))
    trackers = open_trackers(config_with(tmp_path, tensorboard=True), logs, 0, KEY)
    trackers.log(1, {"loss": 0.5, "accuracy_by_timestep/0": 0.25})
    trackers.save()
    trackers.log(2, {"loss": 0.25})
    trackers.close()
    assert events_below(logs) == [(1, "loss", 0.5), (1, "accuracy_by_timestep/0", 0.25), (2, "loss", 0.25)]


def test_tensorboard_files_reach_an_object_store(tmp_path: Path) -> None:
    with object_store() as uri:
        logs = Storage(f"{uri}/logs")
        trackers = open_trackers(config_with(tmp_path, tensorboard=True), logs, 0, KEY)
        trackers.log(1, {"loss": 0.5})
        trackers.save()
        assert len(logs.files("tensorboard")) == 1
        trackers.log(2, {"loss": 0.25})
        trackers.close()
        assert events_below(logs) == [(1, "loss", 0.5), (2, "loss", 0.25)]


@pytest.mark.parametrize(
    ("trackers", "package", "field"),
    [
        ({"mlflow": "http://host"}, "mlflow", "train.trackers.mlflow"),
        ({"wandb": "mine"}, "wandb", "train.trackers.wandb"),
        ({"tensorboard": True}, "tensorboardX", "train.trackers.tensorboard"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: dict[str, Any], package: str, field: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    config = config_with(tmp_path, **trackers)
    with pytest.raises(ConfigError, match=rf"{field} needs the package {package}.*pip install '\S*{package}"):
        check_trackers(config.train.trackers)
    with pytest.raises(ConfigError):
        open_trackers(config, Storage(str(tmp_path)), 0, KEY)


class FakeMlflow(types.ModuleType):
    """The part of mlflow that is used, remembering calls."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[tuple[str, Any]] = []
        self.known: object | None = None
        self.broken = False
        self.exceptions = types.SimpleNamespace(MlflowException=type("MlflowException", (Exception,), {}))
        self.entities = types.SimpleNamespace(
            Metric=lambda key, value, timestamp, step: (key, value, step), Param=lambda key, value: (key, value)
        )

    def MlflowClient(self, tracking_uri: str) -> "FakeMlflow":
        self.calls.append(("client", tracking_uri))
        return self

    def get_experiment_by_name(self, name: str) -> object | None:
        return self.known

    def create_experiment(self, name: str) -> str:
        self.calls.append(("experiment", name))
        return "7"

    def create_run(self, experiment: str, run_name: str) -> object:
        self.calls.append(("run", (experiment, run_name)))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-1"))

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        if self.broken:
            raise self.exceptions.MlflowException("http://me:secret@host is down")
        self.calls.append(("batch", (run, list(metrics), [name for name, _ in params])))

    def set_terminated(self, run: str) -> None:
        self.calls.append(("end", run))


def test_mlflow_gets_a_run_with_parameters_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, logs = FakeMlflow(), Storage(str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    trackers = open_trackers(config_with(tmp_path, mlflow="http://host"), logs, 0, KEY)
    trackers.log(1, {"loss": 0.5})
    trackers.save()
    trackers.close()
    names = [name for name, _ in fake.calls]
    assert names == ["client", "experiment", "run", "batch", "batch", "end"]
    assert fake.calls[2][1] == ("7", "kit")
    parameters = fake.calls[3][1][2]
    assert {"seed", "steps", "objective.beta", "optimizer.lr"} <= set(parameters)
    assert not {"store", "path"} & set(parameters)
    assert fake.calls[4][1] == ("run-1", [("loss", 0.5, 1)], [])
    fake.calls.clear()
    open_trackers(config_with(tmp_path, mlflow="http://host"), logs, 1, KEY).log(2, {"loss": 0.25})
    assert fake.calls[1:] == [("batch", ("run-1", [("loss", 0.25, 2)], []))]


def test_a_server_that_fails_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    trackers = open_trackers(config_with(tmp_path, mlflow="http://host"), Storage(str(tmp_path)), 0, KEY)
    fake.broken = True
    trackers.log(1, {"loss": 0.5})
    trackers.log(2, {"loss": 0.5})
    trackers.close()
    assert "MLflow failed (MlflowException)" in caplog.text
    assert "secret" not in caplog.text
    assert ("end", "run-1") not in fake.calls


def test_a_password_in_a_tracking_uri_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", FakeMlflow())
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        check_trackers(config_with(tmp_path, mlflow="http://me:secret@host").train.trackers)
    assert "secret" not in str(refused.value)


class FakeWandb(types.ModuleType):
    """The part of wandb that is used, remembering calls."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.errors = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
        self.refuses = False
        self.id = "abc"

    def init(self, **settings: Any) -> "FakeWandb":
        if self.refuses:
            raise self.errors.Error("api key secret is wrong")
        self.calls.append(("init", settings))
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.calls.append(("define", (name, step_metric)))

    def log(self, figures: dict[str, float], step: int | None = None) -> None:
        self.calls.append(("log", (figures, step)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_wandb_gets_one_run_that_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, logs = FakeWandb(), Storage(str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = config_with(tmp_path, wandb="mine")
    trackers = open_trackers(config, logs, 0, KEY)
    trackers.log(1, {"loss": 0.5})
    trackers.close()
    settings = fake.calls[0][1]
    assert (settings["project"], settings["name"], settings["id"], settings["resume"]) == ("mine", "kit", None, "allow")
    assert settings["config"]["objective.name"] == "dpo"
    assert not Path(settings["dir"]).exists()
    assert fake.calls[1:3] == [("define", ("step", None)), ("define", ("*", "step"))]
    assert fake.calls[3:] == [("log", ({"loss": 0.5, "step": 1}, None)), ("finish", None)]
    open_trackers(config, logs, 1, KEY).close()
    assert [found["id"] for name, found in fake.calls if name == "init"] == [None, "abc"]
    assert json.loads(logs.read_bytes("trackers.json")) == {"wandb": {KEY: "abc"}}


def test_wandb_without_a_login_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    fake.refuses = True
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(ConfigError, match="wandb login") as refused:
        open_trackers(config_with(tmp_path, wandb="mine"), Storage(str(tmp_path)), 0, KEY)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_another_run_or_a_fresh_start_goes_to_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    fakes: dict[str, Any] = {"mlflow": FakeMlflow(), "wandb": FakeWandb()}
    fake, logs = fakes[tracker], Storage(str(tmp_path))
    monkeypatch.setitem(sys.modules, tracker, fake)
    config = config_with(tmp_path, **{tracker: "http://host"})

    def started(done: int, key: str) -> bool:
        fake.calls.clear()
        open_trackers(config, logs, done, key).close()
        made = [settings for name, settings in fake.calls if name in ("run", "init")]
        return bool(made) and (tracker == "mlflow" or made[0]["id"] is None)

    assert started(0, "one")
    assert not started(3, "one")
    assert started(3, "other")
    assert not started(3, "one")
    assert started(0, "one")


def test_tensorboard_keeps_runs_apart_and_hides_what_was_rolled_back(tmp_path: Path) -> None:
    logs, config = Storage(str(tmp_path / "logs")), config_with(tmp_path, tensorboard=True)
    other = open_trackers(config, logs, 0, "another-run-of-this-directory")
    other.log(7, {"loss": 0.125})
    other.close()
    trackers = open_trackers(config, logs, 0, KEY)
    trackers.log(3, {"loss": 0.5})
    trackers.rolled_back(2)
    trackers.log(3, {"loss": 0.25})
    trackers.close()
    mine = [file for file in logs.files("tensorboard") if file.startswith(f"tensorboard/{KEY[:12]}/")]
    assert [read_events(logs.read_bytes(file)) for file in mine] == [[(3, "loss", 0.5)], [(3, "loss", 0.25)]]
    assert [purged(logs.read_bytes(file)) for file in mine] == [1, 3]


def test_tensorboard_files_that_cannot_be_copied_do_not_end_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with object_store() as uri:
        trackers = open_trackers(config_with(tmp_path, tensorboard=True), Storage(f"{uri}/logs"), 0, KEY)
        trackers.log(1, {"loss": 0.5})
    trackers.save()
    trackers.close()
    assert caplog.text.count("TensorBoard's files could not be read or written") == 1
