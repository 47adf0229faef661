"""How a run is shown while it goes: a progress bar on a terminal, plain lines elsewhere."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from prefopt.stages.chain import StageOutcome


class Reporter:
    """Shows the stages of a run; on standard error, so that output stays clean."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
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
        self._stage, self._said = stage, {}

    def progress(self, done: int, total: int, what: str, how: str = "") -> None:
        """So much of a part of the stage is done, and how it goes."""
        if self._live:
            if self._task is None:
                self._task = self._bar.add_task("", total=total, how=how)
            self._bar.update(self._task, description=f"{self._stage}: {what}", completed=done, total=total, how=how)
            return
        tenth = 10 * done // max(total, 1)
        if self._said.get(what) != tenth:
            self._said[what] = tenth
            self._console.print(f"{self._stage}: {what} {done}/{total}{f' ({how})' if how else ''}", highlight=False)

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
