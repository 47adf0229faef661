import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefopt.config.cluster import ClusterConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training import launch, on_ray
from prefopt.distributed.training.live import LIVE
from prefopt.distributed.training.notes import leave_notes
from prefopt.errors import ConfigError, GuardError, StorageError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(on_ray.ray, "cluster_resources", lambda: {"CPU": 16.0, "GPU": 2.0})


@pytest.mark.usefixtures("two_gpus")
def test_a_local_ray_with_too_few_gpus_is_refused() -> None:
    on_ray._check_room(2, ClusterConfig(worker_gpus=1))
    on_ray._check_room(4, ClusterConfig())
    with pytest.raises(ConfigError, match=r"train\.workers 3 is more than the 2 GPUs of the local Ray"):
        on_ray._check_room(3, ClusterConfig(worker_gpus=0.5))
    with pytest.raises(ConfigError, match="more than the 16 CPUs"):
        on_ray._check_room(4, ClusterConfig(worker_cpus=5))


@pytest.mark.usefixtures("two_gpus")
def test_a_cluster_may_grow(caplog: pytest.LogCaptureFixture) -> None:
    on_ray._check_room(3, ClusterConfig(worker_gpus=1, address="ray://host:10001"))
    assert "train.workers 3 is more than the 2 GPUs that the Ray cluster has now" in caplog.text


class Hiccups(Storage):
    """Fails to list its files until it is told to recover."""

    broken = False

    def files(self, relative: str = "") -> list[str]:
        if self.broken:
            raise StorageError("Cannot list the files.")
        return super().files(relative)

    def read_bytes(self, relative: str) -> bytes:
        if self.broken:
            raise StorageError("Cannot read.")
        return super().read_bytes(relative)


def test_a_hiccup_neither_ends_progress_nor_hides_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "_POLL_SECONDS", 0.01)
    logs, seen = Hiccups(str(tmp_path)), list[int]()
    job: Any = SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(steps=9)), logs=logs)

    def progress(done: int, total: int, what: str, how: str = "") -> None:
        seen.append(done)

    def until(true: Any) -> None:
        for _ in range(500):
            if true():
                return
            launch.threading.Event().wait(0.01)
        raise AssertionError("it never came")

    def train() -> None:
        with launch._reported(job, progress):
            logs.broken = True
            leave_notes(logs, "a", ["Look out."])
            logs.write_bytes(LIVE, b'{"done": 4}')
            until(lambda: "could not be read or written" in caplog.text)
            logs.broken = False
            until(lambda: 4 in seen and "Look out." in caplog.text)
            logs.broken = True
            raise GuardError("the real one")

    with caplog.at_level(logging.WARNING), pytest.raises(GuardError, match="the real one"):
        train()
    assert caplog.text.count("could not be read or written") == 1
