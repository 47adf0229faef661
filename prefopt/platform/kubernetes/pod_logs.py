"""A job's log, line by line, while it is written: that of the pod which sends the command and follows it."""

import math
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime

from prefopt.platform.jobs import JobError
from prefopt.platform.kubernetes.api import Kube, KubeError
from prefopt.platform.kubernetes.pods import SUBMITTER_CONTAINER

_LOOK_SECONDS = 2.0
_CLOCKS_DIFFER_SECONDS = 60
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)

Position = tuple[int, int]
"""When a line was written: seconds since 1970, and nanoseconds."""


class PodLog:
    """Follows the log in a thread of its own. A log that cannot be had is told, and is no failure of the job."""

    def __init__(self, kube: Kube, job: str, tell: Callable[[str], None]) -> None:
        self._kube, self._job, self._tell = kube, job, tell
        self._pod = ""
        self._last: Position | None = None
        self._told_at_last = 0
        self._ended, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log of {job}", daemon=True)

    def start(self) -> None:
        """Begin, if it has not begun: the pod is there, or soon will be."""
        if self._thread.ident is None:
            self._thread.start()

    def finish(self, seconds: float) -> None:
        """The job has ended: tell what is left of its log, for at most so long."""
        self._ended.set()
        self.start()
        self._thread.join(seconds)

    def stop(self) -> None:
        """Tell nothing more."""
        self._stopped.set()
        self._ended.set()

    def _run(self) -> None:
        try:
            whole = False
            while not (whole or self._stopped.is_set()):
                ended = self._ended.is_set()
                whole = self._follow() and ended
                if not whole:
                    (self._stopped if ended else self._ended).wait(_LOOK_SECONDS)
        except JobError as error:
            if not self._stopped.is_set():
                self._tell(f"The log cannot be followed: {error}")

    def _follow(self) -> bool:
        """Tell what is new, until the pod ends; whether that was all there is for now."""
        try:
            pod = self._kube.submitter_pod(self._job)
            if pod is None or pod["phase"] == "Pending":
                return True
            if pod["name"] != self._pod:
                self._pod, self._last, self._told_at_last = pod["name"], None, 0
            told_already = self._told_at_last
            for line in self._kube.log(self._pod, SUBMITTER_CONTAINER, self._since()):
                if self._stopped.is_set():
                    return True
                told_already = self._read(line, told_already)
        except KubeError as error:
            if error.status in (401, 403):
                raise
            return error.status in (400, 404)  # its container does not run yet, or it is gone
        return True

    def _since(self) -> int | None:
        """Seconds into the past from which to read again, with room for clocks that differ."""
        if self._last is None:
            return None
        return max(0, math.ceil(time.time() - self._last[0])) + _CLOCKS_DIFFER_SECONDS

    def _read(self, line: str, told_already: int) -> int:
        """Tell a line unless it was told; how many of the lines of the last told instant are still to be met again."""
        position, text = _parsed(line)
        if position is None or self._last is None or position > self._last:
            self._last, self._told_at_last, told_already = position or self._last, 1, 0
        elif position < self._last:
            return told_already
        elif told_already:
            return told_already - 1
        else:
            self._told_at_last += 1
        self._tell(text)
        return told_already


def _parsed(line: str) -> tuple[Position | None, str]:
    """When a line was written, if it says so, and the line."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None, line
    second, fraction, zone, text = found.groups()
    whole = datetime.fromisoformat(second + zone.replace("Z", "+00:00"))
    return (int(whole.timestamp()), int((fraction or "0").ljust(9, "0")[:9])), text
