"""Jobs and commands as processes of this machine."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

from prefopt.platform.jobs import Job, JobError, Tail

Tell = Callable[[str], None]


def say(line: str) -> None:
    """To standard error, which is the log of a pipeline's task."""
    sys.stderr.write(f"{line}\n")


class HereSubmitter:
    """Runs a job as a process of this machine, which is told to end when we are."""

    def run(self, job: Job, tell: Tell) -> None:
        """Run it to its end. Raises JobError with its exit code and its last lines."""
        _run(job.arguments, tell)


def answer(arguments: Sequence[str], tell: Tell = say) -> dict[str, Any]:
    """What a prefopt command with --json answers: the last line of its standard output. Raises JobError if it
    fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        _run([*arguments, "--json"], tell, told)
        told.seek(0)
        found: dict[str, Any] = json.loads(told.read().splitlines()[-1])
    return found


def _run(arguments: Sequence[str], tell: Tell, answered: IO[str] | None = None) -> None:
    """The lines of both streams go to `tell`; those of standard output to `answered`, where it is given."""
    tail = Tail(tell)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if answered is not None:
        streams = {"stdout": answered, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-m", "prefopt", *arguments],
        **streams,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        lines = process.stdout or process.stderr
        assert lines is not None
        with _ended_with_us(process):
            for line in lines:
                tail(line.rstrip("\n"))
            code = process.wait()
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise JobError(f"prefopt {arguments[0]} {how}: {tail.text}", code if code > 0 else 128 - code)


@contextmanager
def _ended_with_us(process: subprocess.Popen[str]) -> Iterator[None]:
    """Passes a SIGTERM on. Python lets only the main thread have handlers; in others nothing is passed on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
