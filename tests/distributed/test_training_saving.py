"""Saving in the background, on one worker in this process, with a storage that can be slow or broken."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training import saving
from prefopt.distributed.training.checkpoints import CheckpointFolder
from prefopt.distributed.training.saving import CheckpointSaver
from prefopt.errors import StorageError
from tests.kit.training import training_config


class Gated(Storage):
    """Writes wait until the gate is open; those whose name holds `broken` fail."""

    def __init__(self, uri: str, gate: threading.Event, broken: str = "\n") -> None:
        super().__init__(uri)
        self.gate, self.broken = gate, broken

    def write_bytes(self, relative: str, data: bytes) -> None:
        assert self.gate.wait(20)
        if self.broken in relative:
            raise StorageError(f"Cannot write {relative} in {self.uri}: the disk is full.")
        super().write_bytes(relative, data)


class Setting:
    def __init__(self, tmp_path: Path, broken: str = "\n") -> None:
        self.gate = threading.Event()
        self.work = Gated(str(tmp_path / "work"), self.gate, broken)
        config: RunConfig = training_config(tmp_path / "model", tmp_path / "store")
        self.job: Any = SimpleNamespace(work=self.work, config=config, fingerprint="run")
        self.folder = CheckpointFolder(self.work, "run")
        self.saver = CheckpointSaver(self.job, self.folder, "a", [])

    def save(self, step: int) -> None:
        def write(directory: Path) -> None:
            (directory / "engine").mkdir()
            (directory / "engine" / "state.pt").write_bytes(f"state {step}".encode())

        segments = {f"segments/steps-{step - 1:08d}-{step:08d}.jsonl": b"{}\n"}
        self.saver.save(step, write, {"minority": {"steps": step}}, segments)


@pytest.mark.usefixtures("process_group")
def test_training_goes_on_while_a_checkpoint_is_stored(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.save(1)
    assert setting.folder.newest()[0] is None
    setting.gate.set()
    setting.saver.finish()
    manifest, _ = setting.folder.newest()
    assert manifest is not None
    assert (manifest.step, manifest.workers, manifest.state) == (1, 1, {"minority": {"steps": 1}})
    assert [file.path for file in manifest.files] == ["engine/state.pt"]
    assert manifest.config["train"]["steps"] == 6
    assert not list(Path(setting.work.path("scratch")).iterdir())


@pytest.mark.usefixtures("process_group")
def test_the_next_save_waits_for_the_previous(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.save(1)
    opener = threading.Timer(0.5, setting.gate.set)
    opener.start()
    began = time.monotonic()
    setting.save(2)
    assert time.monotonic() - began > 0.4
    setting.saver.finish()
    manifest, _ = setting.folder.newest()
    assert manifest is not None
    assert [entry.path for entry in manifest.segments] == [
        "segments/steps-00000000-00000001.jsonl",
        "segments/steps-00000001-00000002.jsonl",
    ]
    assert setting.saver.segments == manifest.segments


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("broken", ["part-", "manifest", "segments"])
def test_an_error_in_the_background_reaches_training(tmp_path: Path, broken: str) -> None:
    setting = Setting(tmp_path, broken)
    setting.gate.set()
    setting.save(1)
    with pytest.raises(StorageError, match=r"checkpoint after 1 steps could not be stored.*disk is full"):
        setting.save(2)
    assert setting.folder.newest()[0] is None


@pytest.mark.usefixtures("process_group")
def test_files_of_a_lost_worker_are_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "PATIENCE", 0.2)
    setting = Setting(tmp_path)
    setting.gate.set()
    setting.saver._workers = 2
    setting.save(1)
    with pytest.raises(StorageError, match=r"Worker 1 has not stored its files within 0\.2 s"):
        setting.saver.finish()
