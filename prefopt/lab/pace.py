"""How far a sitting may go, and how long that takes."""

import time
from collections.abc import Callable, Sequence

from prefopt.config.lab import BudgetConfig
from prefopt.lab.cells import Cell


class Pace:
    """Counts cells against a budget and the clock. It starts when it is made."""

    def __init__(self, budget: BudgetConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget, self._clock, self._started = budget, clock, clock()
        self._begun = self._under_way = self._ended = 0

    def begin(self) -> None:
        """A cell begins."""
        self._begun += 1
        self._under_way += 1

    def end(self, *, well: bool) -> None:
        """A cell ended; only those that ended well tell how long cells take."""
        self._under_way -= 1
        self._ended += well

    def allowed(self, waiting: Sequence[Cell]) -> Sequence[Cell]:
        """Those for which there is a budget, of the cells that wait."""
        minutes = self._budget.minutes
        if minutes is not None and self._seconds >= 60.0 * minutes:
            return ()
        return waiting[: self._most]

    def seconds_left(self, waiting: int) -> float | None:
        """Until the budget is spent or all is done, where so many cells wait. Those under way are taken to be half
        done; None before there is a pace."""
        worked = self._ended + self._under_way / 2
        if not worked:
            return None
        pace = self._seconds / worked
        waited = pace * (waiting if self._most is None else min(waiting, self._most))
        if self._budget.minutes is not None:
            waited = min(waited, max(0.0, 60.0 * self._budget.minutes - self._seconds))
        return waited + pace * self._under_way / 2

    @property
    def _seconds(self) -> float:
        return self._clock() - self._started

    @property
    def _most(self) -> int | None:
        """Cells that may still begin."""
        return None if self._budget.cells is None else self._budget.cells - self._begun
