"""How a run is shown while it goes: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from prefopt.stages.chain import StageOutcome


class TimeLeft:
    """How long the rest of a part takes at the speed since its first report: that of a resumed run, or the first
    after a start that takes a while, counts as done before."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last, self._words = 0, ""

    def after(self, done: int, total: int, now: float) -> str:
        """In words, empty while nobody can tell. It changes when `done` does."""
        if self._first is None or done < self._last:
            self._first, self._words = ((done, now) if done else None), ""
        elif done > self._last:
            steps, seconds = done - self._first[0], now - self._first[1]
            left = (total - done) * seconds / steps
            self._words = _in_words(left) if done < total else ""
        self._last = done
        return self._words


def _in_words(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} left"


class Reporter:
    """Shows the stages of a run; on standard error, so that output stays clean."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, TimeLeft] = {}
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[how]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._said: dict[str, int] = {}

    def __enter__(self) -> "Reporter":
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._bar.stop()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._said, self._left = stage, {}, {}

    def progress(self, done: int, total: int, what: str, how: str = "", seconds_left: float | None = None) -> None:
        """So much of a part of the stage is done, and how it goes; `seconds_left` where the stage itself knows."""
        if seconds_left is None:
            left = self._left.setdefault(what, TimeLeft()).after(done, total, self._clock())
        else:
            left = _in_words(seconds_left) if done < total else ""
        if self._live:
            if self._task is None:
                self._task = self._bar.add_task("", total=total, left=left, how=how)
            described = f"{self._stage}: {what}"
            self._bar.update(self._task, description=described, completed=done, total=total, left=left, how=how)
            return
        tenth = 10 * done // max(total, 1)
        if self._said.get(what) != tenth:
            self._said[what] = tenth
            told = ", ".join(part for part in (left, how) if part)
            self._console.print(f"{self._stage}: {what} {done}/{total}{f' ({told})' if told else ''}", highlight=False)

    def say(self, line: str) -> None:
        """Something that is worth a line of its own."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def end(self, outcome: StageOutcome) -> None:
        """A stage ended, or there was nothing to do."""
        rows = outcome.output.manifest.rows
        state = "up to date" if outcome.skipped else "done"
        counts = f"{rows.out} {outcome.output.manifest.unit}s"
        counts += f", {rows.quarantined} quarantined" if rows.quarantined else ""
        if self._live and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._console.print(f"{outcome.name}: {state} ({counts})", highlight=False)
