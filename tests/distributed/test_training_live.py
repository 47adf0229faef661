from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.distributed.training.live import Live, LiveWriter, read_live
from prefopt.distributed.training.notes import leave_notes
from prefopt.distributed.training.watch import TimingLog
from prefopt.errors import StorageError
from tests.kit.s3 import object_store


def test_a_moment_is_read_as_it_was_written(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    assert read_live(logs) == Live(0)
    writer = LiveWriter(logs)
    writer.write(3, "learning", {"pairs_per_second": 12.0, "waiting": 0.25, "seconds_per_step": 1.0}, last=False)
    assert read_live(logs) == Live(3, "learning", 12.0, 0.25)


def test_only_the_last_moment_is_always_written(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    writer = LiveWriter(logs)
    writer.write(1, None, {}, last=False)
    writer.write(2, None, {}, last=False)
    assert read_live(logs).done == 1
    writer.write(3, None, {}, last=True)
    assert read_live(logs).done == 3


class BrokenStorage(Storage):
    """Refuses to write, as an object store that hiccups."""

    def write_bytes(self, relative: str, data: bytes) -> None:
        raise StorageError(f"Cannot write {relative}.")


def test_writes_for_onlookers_may_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs = BrokenStorage(str(tmp_path))
    writer, timing = LiveWriter(logs), TimingLog(logs, 0)
    for step in (1, 2):
        writer.write(step, None, {}, last=True)
        timing.write()
    leave_notes(logs, "a", ["Look out."])
    assert caplog.text.count("The progress of training could not be read or written") == 1
    assert caplog.text.count("The times of steps could not be read or written") == 1
    assert "Look out." in caplog.text


def test_an_object_store_is_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("prefopt.distributed.training.live.time.monotonic", lambda: now[0])
    with object_store() as uri:
        far, near = Storage(f"{uri}/logs"), Storage(str(tmp_path))
        writers = {logs: LiveWriter(logs) for logs in (far, near)}
        for step in range(1, 11):
            for writer in writers.values():
                writer.write(step, None, {}, last=False)
            now[0] += 2.0
        assert (read_live(far).done, read_live(near).done) == (9, 10)


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (Live(0), ""),
        (Live(5, None, 3.14159, 0.01), "3.14 pairs/s"),
        (Live(5, "saturated", 120.4, 0.4), "saturated, 120 pairs/s, 40% waiting for data"),
    ],
)
def test_words_for_a_progress_line(live: Live, words: str) -> None:
    assert live.words() == words
