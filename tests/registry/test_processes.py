"""Whether a process named in a file has ended."""

import subprocess
import sys

import pytest

from prefopt.registry.processes import Process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def test_this_process_lives() -> None:
    assert not Process.own().is_gone


def test_a_later_process_with_the_same_number_is_another() -> None:
    assert Process.own().model_copy(update={"started": "1"}).is_gone


def test_nobody_can_tell_of_another_machine_or_container() -> None:
    ended = Process.own().model_copy(update={"started": "1"})
    for where in ({"host": "elsewhere"}, {"space": "boot pid:[1]"}, {"space": ""}):
        assert not ended.model_copy(update=where).is_gone


def test_a_process_that_nobody_waited_for_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = subprocess.run(
            ["cat", f"/proc/{child.pid}/stat"], capture_output=True, text=True, check=True
        ).stdout.split()[21]
        process = Process.own().model_copy(update={"pid": child.pid, "started": started})
        assert not process.is_gone
        child.kill()
        while not process.is_gone:
            pass
        assert child.returncode is None
    assert process.is_gone
