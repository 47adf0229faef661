"""The watchdog and the stopwatch. Times here are short, and none is asserted exactly."""

import threading
import time
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.distributed.training.watch import SEEN_STEPS, StallWatch, Stopwatch, TimingLog, read_timing, stacks_name
from prefopt.errors import StorageError

PATIENCE = 30.0


def wait_for(logs: Storage, name: str) -> str:
    """The content of a file once it is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if logs.exists(name):
            return logs.read_bytes(name).decode()
        time.sleep(0.01)
    pytest.fail(f"{name} did not appear")


def stall_in_here(seconds: float) -> None:
    time.sleep(seconds)


def quick_steps(watch: StallWatch, count: int = SEEN_STEPS) -> None:
    for step in range(1, count + 1):
        with watch.step(step):
            time.sleep(0.001)


def test_a_stalled_step_leaves_its_stacks_once(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    with StallWatch(logs, rank=3, factor=2.0, least_seconds=0.2) as watch:
        quick_steps(watch)
        with watch.step(6):
            stall_in_here(0.6)
        text = wait_for(logs, stacks_name(6, 3))
        logs.delete(stacks_name(6, 3))
        with watch.step(7):
            pass
    assert "stall_in_here" in text
    assert "stall-watch" in text or "Thread" in text
    assert logs.files() == []


def test_steps_as_usual_leave_nothing(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    with StallWatch(logs, rank=0, factor=2.0, least_seconds=PATIENCE) as watch:
        quick_steps(watch, 20)
        assert watch.limit == PATIENCE
    assert logs.files() == []


def test_too_few_steps_have_no_median(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    with StallWatch(logs, rank=0, factor=2.0, least_seconds=0.01) as watch:
        quick_steps(watch, SEEN_STEPS - 1)
        assert watch.limit is None
        with watch.step(5):
            stall_in_here(0.1)
    assert logs.files() == []


def test_the_limit_is_a_multiple_of_the_median(tmp_path: Path) -> None:
    with StallWatch(Storage(str(tmp_path)), rank=0, factor=10.0, least_seconds=0.0) as watch:
        for step in range(1, 6):
            with watch.step(step):
                time.sleep(0.02)
        assert watch.limit is not None
        assert watch.limit >= 0.2


def test_the_thread_ends_with_the_block(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(3):
        with StallWatch(Storage(str(tmp_path)), rank=0, factor=2.0):
            assert threading.active_count() == before + 1
        assert threading.active_count() == before


def test_an_error_in_a_step_passes_and_ends_the_watch(tmp_path: Path) -> None:
    before = threading.active_count()
    with (
        pytest.raises(ZeroDivisionError),
        StallWatch(Storage(str(tmp_path)), rank=0, factor=2.0) as watch,
        watch.step(1),
    ):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_logs_that_cannot_be_written_do_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Storage, relative: str, data: bytes) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(Storage, "write_bytes", refuse)
    with StallWatch(Storage(str(tmp_path)), rank=0, factor=2.0, least_seconds=0.05) as watch:
        quick_steps(watch)
        for step in (6, 7):
            with watch.step(step):
                end = time.monotonic() + PATIENCE
                while f"step {step} are lost" not in caplog.text and time.monotonic() < end:
                    time.sleep(0.01)
    assert "step 6 are lost: the disk is full." in caplog.text
    assert "step 7 are lost" in caplog.text


def test_the_stopwatch_tells_waiting_from_work() -> None:
    watch = Stopwatch()
    assert watch.take(8) == {}
    for _ in range(2):
        with watch.step():
            with watch.waiting():
                time.sleep(0.03)
            time.sleep(0.01)
    found = watch.take(8)
    assert found.keys() == {"seconds_per_step", "pairs_per_second", "waiting"}
    assert 0.0 < found["waiting"] < 1.0
    assert found["seconds_per_step"] >= 0.04
    assert found["pairs_per_second"] == pytest.approx(8 / found["seconds_per_step"])
    assert watch.take(8) == {}


def test_a_resumed_timing_log_keeps_what_was_done(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    assert read_timing(logs) == []
    first = TimingLog(logs, 0)
    for step in (10, 20, 30):
        first.add(step, {"seconds_per_step": 1.0})
    first.add(40, {})
    first.write()
    second = TimingLog(logs, 20)
    second.add(30, {"seconds_per_step": 2.0})
    second.write()
    assert [(line["step"], line["seconds_per_step"]) for line in read_timing(logs)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
