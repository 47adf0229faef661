"""What one worker alone finds wrong ends training for good."""

from pathlib import Path

import pytest
import torch

from prefopt.data.storage import Storage
from prefopt.distributed.training import worker
from prefopt.distributed.training.refusal import REFUSED, AgreedError, check_refusal, leave_refusal
from prefopt.distributed.training.worker import train_job
from prefopt.errors import ConfigError, GuardError, InputError, PrefoptError, StorageError
from prefopt.stages.train import prepare
from tests.kit.models import tiny_pipeline
from tests.kit.training import training_config, training_context

pytestmark = pytest.mark.usefixtures("process_group")


def test_a_restart_gives_up_with_the_first_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = training_config(tiny_pipeline(tmp_path / "model"), tmp_path / "store")
    job, _ = prepare(training_context(tmp_path, config))
    for file in job.store.files("x0"):
        job.store.delete(file)
    with pytest.raises(InputError, match="run the score stage"):
        train_job(job, torch.device("cpu"))
    monkeypatch.setattr(worker, "build_run", lambda *_: pytest.fail("the models were loaded again"))
    refused = train_job(job, torch.device("cpu"))["refused"]
    assert isinstance(refused, InputError)
    assert "run the score stage" in str(refused)


@pytest.mark.parametrize("kind", [ConfigError, InputError, GuardError])
def test_the_reason_keeps_its_kind(tmp_path: Path, kind: type[PrefoptError]) -> None:
    logs = Storage(str(tmp_path))
    check_refusal(logs)
    leave_refusal(logs, kind("Why not."))
    with pytest.raises(AgreedError) as raised:
        check_refusal(logs)
    assert type(raised.value.reason) is kind
    assert str(raised.value.reason) == "Why not."


def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = training_config(tiny_pipeline(tmp_path / "model"), tmp_path / "store")
    job, _ = prepare(training_context(tmp_path, config))

    def full_disk(*_: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(worker, "build_run", full_disk)
    with pytest.raises(StorageError):
        train_job(job, torch.device("cpu"))
    assert not job.logs.exists(REFUSED)
