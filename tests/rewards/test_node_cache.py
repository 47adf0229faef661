import errno
import subprocess
import sys
from pathlib import Path

import pytest

from prefopt.errors import StorageError
from prefopt.rewards.node_cache import NodeCache

BUILD = """
import sys, time
from pathlib import Path
from prefopt.rewards.node_cache import NodeCache

place, log = Path(sys.argv[1]), Path(sys.argv[2])

def build(target):
    with log.open("a") as stream:
        stream.write("built\\n")
    (target / "a").write_text("a")
    time.sleep(1.0)
    (target / "b").write_text("b")

found = NodeCache(place).entry("x", build)
assert (found / "a").read_text() + (found / "b").read_text() == "ab"
"""


def fill(target: Path) -> None:
    (target / "inner").mkdir()
    (target / "inner" / "a").write_text("whole")


def never(target: Path) -> None:
    pytest.fail("built again")


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path / "cache")
    place = cache.entry("x", fill)
    assert (place / "inner" / "a").read_text() == "whole"
    assert cache.entry("x", never) == place


def test_processes_that_ask_together_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", BUILD, str(tmp_path / "cache"), str(log)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_a_killed_builder_leaves_no_entry_and_its_remains_go(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(cache), str(tmp_path / "log")])
    while not list(cache.glob(".unfinished-x-*/a")):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert list(cache.glob(".unfinished-x-*"))
    assert not (cache / "x").exists()
    assert (NodeCache(cache).entry("x", fill) / "inner" / "a").read_text() == "whole"
    assert not list(cache.glob(".unfinished-*"))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        (target / "a").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        NodeCache(tmp_path).entry("x", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


@pytest.mark.parametrize("spoil", ["shorten", "remove", "sizes"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, spoil: str) -> None:
    place = NodeCache(tmp_path).entry("x", fill)
    if spoil == "shorten":
        (place / "inner" / "a").write_text("who")
    elif spoil == "remove":
        (place / "inner" / "a").unlink()
    else:
        (place / "sizes.json").write_text("{")
    assert (NodeCache(tmp_path).entry("x", fill) / "inner" / "a").read_text() == "whole"


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    def full(target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"the disk is full.*rewards.cache"):
        NodeCache(tmp_path).entry("x", full)


def test_a_place_that_cannot_be_written_to_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot keep reward weights in .*file/cache"):
        NodeCache(tmp_path / "file" / "cache").entry("x", fill)
