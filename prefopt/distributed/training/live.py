"""How training goes right now: the first worker writes it below logs/, and the driver shows it."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from prefopt.data.storage import Storage
from prefopt.distributed.training.lenient import Lenient

LIVE = "train-progress.json"
_SECONDS, _SECONDS_REMOTE = 0.5, 15.0
"""Between two moments: in a directory, and on an object store, where the steps wait for each write."""
_SLOW_DATA = 0.1


@dataclass(frozen=True)
class Live:
    """A moment of training."""

    done: int
    """Optimizer steps."""
    verdict: str | None = None
    """The last one, if there was any."""
    pairs_per_second: float | None = None
    waiting: float | None = None
    """Share of a step spent waiting for data."""

    def words(self) -> str:
        """For a progress line: verdict and speed, and waiting where it is worth a look."""
        parts = [self.verdict] if self.verdict else []
        if self.pairs_per_second:
            parts.append(f"{self.pairs_per_second:.3g} pairs/s")
        if self.waiting is not None and self.waiting > _SLOW_DATA:
            parts.append(f"{100 * self.waiting:.0f}% waiting for data")
        return ", ".join(parts)


class LiveWriter:
    """Writes moments, but not more often than anyone would read them. A write that fails does not end training."""

    def __init__(self, logs: Storage) -> None:
        self._logs, self._written = logs, -math.inf
        self._seconds = _SECONDS if logs.local else _SECONDS_REMOTE
        self._lenient = Lenient("The progress of training")

    def write(self, done: int, verdict: str | None, timing: Mapping[str, float], *, last: bool) -> None:
        """A moment; `timing` has the keys of `Stopwatch.figures`. The `last` one is never left out."""
        now = time.monotonic()
        if last or now - self._written > self._seconds:
            moment = Live(done, verdict, timing.get("pairs_per_second"), timing.get("waiting"))
            with self._lenient():
                self._logs.write_bytes(LIVE, json.dumps(asdict(moment)).encode())
            self._written = now


def read_live(logs: Storage) -> Live:
    """The newest moment; the start of training if there is none."""
    return Live(**json.loads(logs.read_bytes(LIVE))) if logs.exists(LIVE) else Live(0)
