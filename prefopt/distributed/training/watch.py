"""How long a worker's steps take: a watchdog that writes its stacks when one stalls, and a stopwatch of waiting.

Times go to logs/ alone, never into a file that a manifest lists.
"""

import faulthandler
import json
import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from prefopt.data.storage import Storage
from prefopt.distributed.training.lenient import Lenient
from prefopt.errors import StorageError

TIMING = "timing.jsonl"
SEEN_STEPS = 5
"""Steps whose median is trusted."""
LAST_STEPS = 50
"""Steps that the median looks back on."""
LEAST_SECONDS = 10.0
"""No step is called stalled before: on a small model ten times the median is an instant."""


class StallWatch:
    """A thread of one worker that writes the stacks of all its threads to `stacks-step-N-rank-R.txt`.

    It does so once for a step that takes more than `factor` times the median of the last steps. A step that stalls
    on one worker stalls the others, which wait for it: every worker watches itself, so all their stacks are there.
    """

    def __init__(self, logs: Storage, rank: int, factor: float, least_seconds: float = LEAST_SECONDS) -> None:
        self._logs, self._rank, self._factor, self._least = logs, rank, factor, least_seconds
        self._seconds: deque[float] = deque(maxlen=LAST_STEPS)
        self._changed = threading.Condition()
        self._step: int | None = None
        self._began = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def limit(self) -> float | None:
        """Seconds from which a step counts as stalled; None while too few steps were seen."""
        if len(self._seconds) < SEEN_STEPS:
            return None
        return max(self._least, self._factor * float(np.median(self._seconds)))

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Watch a step while the block runs."""
        with self._changed:
            self._step, self._began = step, time.monotonic()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._seconds.append(time.monotonic() - self._began)
                self._step = None
                self._changed.notify()

    def _watch(self) -> None:
        written: int | None = None
        while (step := self._next_stalled(written)) is not None:
            self._write_stacks(step)
            written = step

    def _next_stalled(self, written: int | None) -> int | None:
        """Wait for a stalled step other than the one whose stacks are `written`; None once the watch is closed."""
        with self._changed:
            while not self._closed:
                step, limit = self._step, self.limit
                if step is None or limit is None or step == written:
                    self._changed.wait()
                    continue
                left = self._began + limit - time.monotonic()
                if left <= 0.0:
                    return step
                self._changed.wait(left)
        return None

    def _write_stacks(self, step: int) -> None:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            try:
                self._logs.write_bytes(stacks_name(step, self._rank), file.read())
            except StorageError as error:
                logging.getLogger(__name__).warning("Stacks of the stalled step %d are lost: %s", step, error)


def stacks_name(step: int, rank: int) -> str:
    """Where a worker's stacks in a stalled step lie below logs/."""
    return f"stacks-step-{step}-rank-{rank}.txt"


class Stopwatch:
    """Sums up steps, and the part of them that is spent waiting for data."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = self._waited = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time a step."""
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began
        self._steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time the part of a step in which data are waited for."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def figures(self, pairs_per_step: int) -> dict[str, float]:
        """Seconds per step, pairs per second and the share of waiting since the last `take`; empty without a step."""
        if not self._steps or self._seconds <= 0.0:
            return {}
        return {
            "seconds_per_step": self._seconds / self._steps,
            "pairs_per_second": self._steps * pairs_per_step / self._seconds,
            "waiting": min(1.0, self._waited / self._seconds),
        }

    def take(self, pairs_per_step: int) -> dict[str, float]:
        """The figures, and a new start."""
        found = self.figures(pairs_per_step)
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        return found


class TimingLog:
    """The lines of logs/timing.jsonl, each over the steps since the line before. The first worker's alone."""

    def __init__(self, logs: Storage, done: int) -> None:
        """Keeps the lines of an interrupted run up to `done` steps."""
        self._logs = logs
        self._lenient = Lenient("The times of steps")
        self._lines = [line for line in read_timing(logs) if line["step"] <= done]

    def add(self, step: int, figures: dict[str, float]) -> None:
        """The figures of the steps up to this one; nothing is noted where there are none."""
        if figures:
            self._lines.append({"step": step, **figures})

    def write(self) -> None:
        """Bring what was added into the logs, with each checkpoint. A write that fails does not end training."""
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        with self._lenient():
            self._logs.write_bytes(TIMING, text.encode())


def read_timing(logs: Storage) -> list[dict[str, Any]]:
    """The lines of a timing log, none if there is no log."""
    if logs.size(TIMING) is None:
        return []
    return [json.loads(line) for line in logs.read_bytes(TIMING).splitlines()]
