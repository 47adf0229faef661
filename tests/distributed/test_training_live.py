from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.distributed.training.live import Live, LiveWriter, read_live


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
