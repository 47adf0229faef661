"""Budgets and time left, by a clock of the test's."""

from dataclasses import replace

from prefopt.config.lab import BudgetConfig
from prefopt.lab.cells import Cell
from prefopt.lab.pace import Pace

CELL = Cell("dpo", "clean", 0.0, 0, None, ())
CELLS = [replace(CELL, seed=seed) for seed in range(10)]


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace(clock: Clock, *, begun: int, ended: int, failed: int = 0, **budget: float) -> Pace:
    """After a minute."""
    made = Pace(BudgetConfig.model_validate(budget), clock)
    for _ in range(begun):
        made.begin()
    for number in range(ended + failed):
        made.end(well=number < ended)
    clock.now += 60.0
    return made


def test_time_left_is_of_the_cells_that_wait_and_half_of_those_under_way() -> None:
    assert pace(Clock(), begun=4, ended=2).seconds_left(10) == 20.0 * (10 + 1)
    assert pace(Clock(), begun=3, ended=3).seconds_left(0) == 0.0


def test_time_left_goes_no_further_than_the_budget() -> None:
    assert pace(Clock(), begun=4, ended=2, cells=5).seconds_left(10) == 20.0 * (1 + 1)
    assert pace(Clock(), begun=4, ended=2, minutes=1.5).seconds_left(10) == 30.0 + 20.0
    assert pace(Clock(), begun=4, ended=2, minutes=0.5).seconds_left(10) == 20.0


def test_cells_that_failed_are_neither_done_nor_under_way() -> None:
    assert pace(Clock(), begun=3, ended=2, failed=1).seconds_left(1) == 30.0
    assert pace(Clock(), begun=1, ended=0, failed=1).seconds_left(1) is None


def test_a_budget_allows_no_more_cells_than_it_has_left() -> None:
    assert pace(Clock(), begun=2, ended=1, cells=5).allowed(CELLS) == CELLS[:3]
    assert pace(Clock(), begun=2, ended=1).allowed(CELLS) == CELLS
    assert not pace(Clock(), begun=2, ended=1, minutes=1.0).allowed(CELLS)
    assert pace(Clock(), begun=2, ended=1, minutes=1.1).allowed(CELLS) == CELLS
