"""The `prefopt` command as a process of its own, watched and ended together with everything that it started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil


class Running:
    """A running command: its lines on standard error, its processes, and the peak of their memory."""

    def __init__(self, arguments: Sequence[str], directory: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefopt", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=directory,
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
        self._driver = psutil.Process(self._process.pid)
        self._family = {self._driver}
        self.said: list[str] = []
        self.peak_pss = 0

    def lines(self) -> Iterator[str]:
        """Standard error, line by line, until the command ends."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())
            yield self.said[-1]

    def finish(self) -> int:
        """Wait for the end; gives the exit code."""
        for _ in self.lines():
            pass
        return self._process.wait()

    def watch_memory(self, seconds: float = 0.25) -> None:
        """Note the peak of the summed proportional set sizes from now on."""
        threading.Thread(target=self._watch, args=(seconds,), daemon=True).start()

    def _watch(self, seconds: float) -> None:
        while self._process.poll() is None:
            self._meet_family()
            total = 0
            for process in list(self._family):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.peak_pss = max(self.peak_pss, total)
            time.sleep(seconds)

    def kill(self) -> None:
        """kill -9 the process group, then whatever the command started in groups of its own."""
        self._meet_family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in self._family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        psutil.wait_procs(list(self._family), timeout=20)

    def _meet_family(self) -> None:
        with contextlib.suppress(psutil.Error):
            self._family.update(self._driver.children(recursive=True))


@contextlib.contextmanager
def command(*arguments: str, directory: Path) -> Iterator[Running]:
    """Start `prefopt` with these arguments; nothing of it is left when the block ends."""
    running = Running(arguments, directory)
    try:
        yield running
    finally:
        running.kill()


def run_command(*arguments: str, directory: Path) -> list[str]:
    """Run `prefopt` to its end; it must succeed. Gives the lines on standard error."""
    with command(*arguments, directory=directory) as running:
        assert running.finish() == 0, "\n".join(running.said)
        return running.said
