"""A sitting of the laboratory: from its config and the outcomes that are there to more outcomes."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from prefopt.config import load_config
from prefopt.config.cluster import ClusterConfig
from prefopt.config.lab import BudgetConfig, LabConfig
from prefopt.errors import ConfigError, PrefoptError
from prefopt.lab.cells import Cell, chosen_candidates, every_cell, grid_cells, tuning_cells
from prefopt.lab.jobs import Job, Jobs
from prefopt.lab.ledger import Ledger
from prefopt.lab.outcome import Outcome
from prefopt.lab.pace import Pace
from prefopt.lab.truth import check_truth
from prefopt.lab.waiting import waiting_methods
from prefopt.lab.work import OWN, Laboratory
from prefopt.lab.workers import Given, Workers, hired

OUTCOMES = "outcomes.jsonl"


class Watcher(Protocol):
    """Who is told how a sitting goes."""

    def progress(self, done: int, total: int, what: str, how: str = "", seconds_left: float | None = None) -> None:
        """So many of all cells are done."""

    def say(self, line: str) -> None:
        """A cell ended."""


@dataclass
class Sitting:
    """What a sitting came to."""

    cells: int
    """Of tuning and grid."""
    found: dict[Cell, Outcome]
    """Of the cells that are done, in this sitting or an earlier one."""
    failed: dict[Cell, PrefoptError] = field(default_factory=dict)
    """Cells of this sitting that failed, or that need a stage that failed."""
    chosen: dict[str, int] = field(default_factory=dict)
    """The candidate that each method took."""


class Lab:
    """A laboratory in its directory. What other sittings and machines have found counts."""

    def __init__(self, config: LabConfig, place: str, watcher: Watcher, cluster: ClusterConfig | None = None) -> None:
        """`cluster`: by default the one of the run's config. ConfigError if that config, or a cell's settings, make no
        run, or if `truth` is no reward."""
        self._config, self._watcher = config, watcher
        run = load_config(config.run)
        if config.truth is not None:
            check_truth(run, config.truth)
        self._cluster = cluster or run.cluster
        elsewhere = self._cluster.submit.kind != "here"
        place = place if "://" in place else os.path.abspath(place)
        self._laboratory = Laboratory(config.run, place, config.truth, elsewhere)
        self._ledger = Ledger(config.outcomes or f"{place}/{OUTCOMES}")
        self._check_cells()
        self._keys: dict[Cell, dict[str, str]] = {}
        self._left: list[Cell] = []
        self._total = config.cells + len(list(tuning_cells(config)))

    def run(self, budget: BudgetConfig, start_engine: Callable[[], object]) -> Sitting:
        """Do the cells that are missing, as far as the budget goes. A cell that fails is told, and left for another
        sitting."""
        sitting = Sitting(self._total, {})
        self._learn(sitting)
        self._watcher.progress(len(sitting.found), self._total, "cells")
        jobs, pace = Jobs(self._keys_of), Pace(budget)
        if pace.allowed(self._left):
            workers = hired(self._laboratory, self._cluster, self._config.workers, start_engine, self._watcher.say)
            with workers as hands:
                self._work(hands, jobs, pace, sitting)
        sitting.failed = self._failed(jobs)
        sitting.chosen = chosen_candidates(self._config, sitting.found)
        return sitting

    def _work(self, workers: Workers, jobs: Jobs, pace: Pace, sitting: Sitting) -> None:
        under_way = 0
        while True:
            while under_way < workers.size and (job := self._next(jobs, pace, sitting)):
                if job.stage is None:
                    pace.begin()
                workers.begin(job)
                under_way += 1
            if not under_way:
                return
            for job, given in workers.finished():
                under_way -= 1
                if job.stage is None:
                    pace.end(well=isinstance(given, Outcome))
                self._end(jobs, job, given, sitting)
                if job.stage is None:
                    self._tell(jobs, pace, sitting)

    def _next(self, jobs: Jobs, pace: Pace, sitting: Sitting) -> Job | None:
        """For cells that neither this sitting nor another one has done by now, and no others."""
        self._ledger.look()
        self._learn(sitting)
        return jobs.next(pace.allowed(jobs.waiting(self._left)))

    def _tell(self, jobs: Jobs, pace: Pace, sitting: Sitting) -> None:
        left = pace.seconds_left(self._to_begin(jobs, sitting))
        self._watcher.progress(len(sitting.found), self._total, "cells", seconds_left=left)

    def _to_begin(self, jobs: Jobs, sitting: Sitting) -> int:
        """Cells that wait, and those of the grid that will when their method's settings are chosen."""
        chosen = chosen_candidates(self._config, sitting.found)
        blocked = waiting_methods(self._config, self._failed(jobs))
        methods = self._config.methods.items()
        later = sum((one.like or name) not in chosen and name not in blocked for name, one in methods)
        each = len(self._config.noises) * len(self._config.seeds)
        return len(jobs.waiting(self._left)) + later * each

    def _end(self, jobs: Jobs, job: Job, given: Given | PrefoptError, sitting: Sitting) -> None:
        if isinstance(given, PrefoptError):
            self._watcher.say(f"{job.title}: failed. {given}")
            jobs.failed(job, given)
            return
        jobs.done(job)
        if given is None:
            return
        self._ledger.keep(given)
        self._learn(sitting)
        self._watcher.say(f"{job.cell.title}: {_in_words(given)}")

    def _check_cells(self) -> None:
        """ConfigError for a cell that is no run, before any of them begins, and for two with one directory."""
        cells = [*tuning_cells(self._config), *every_cell(self._config)]
        taken: dict[str, str] = {}
        for cell in cells:
            if cell.name in taken and taken[cell.name] != cell.title:
                raise ConfigError(f"{taken[cell.name]!r} and {cell.title!r} have one directory: choose other names.")
            taken[cell.name] = cell.title
        kinds = {(cell.method, cell.noise, cell.candidate): cell for cell in cells}
        for cell in kinds.values():
            self._laboratory.config(cell)

    def _learn(self, sitting: Sitting) -> None:
        """What is found by now, in the cells' own names (a run may be two cells), and which cells are left that can be
        named."""
        tuning = list(tuning_cells(self._config))
        cells = [*tuning, *grid_cells(self._config, self._known(tuning))]
        sitting.found = self._known(cells)
        self._left = [cell for cell in cells if cell not in sitting.found]

    def _known(self, cells: Iterable[Cell]) -> dict[Cell, Outcome]:
        known = ((cell, self._ledger.find(self._keys_of(cell)[OWN[-1]], self._config.truth)) for cell in cells)
        return {cell: _of(cell, outcome) for cell, outcome in known if outcome is not None}

    def _failed(self, jobs: Jobs) -> dict[Cell, PrefoptError]:
        known = ((cell, jobs.failure(cell)) for cell in self._left)
        return {cell: error for cell, error in known if error is not None}

    def _keys_of(self, cell: Cell) -> dict[str, str]:
        if cell not in self._keys:
            self._keys[cell] = self._laboratory.keys(cell)
        return self._keys[cell]


def _of(cell: Cell, outcome: Outcome) -> Outcome:
    names = {"method": cell.method, "noise": cell.noise, "rate": cell.rate, "seed": cell.seed}
    return outcome.model_copy(update={**names, "candidate": cell.candidate, "settings": list(cell.settings)})


def _in_words(outcome: Outcome) -> str:
    accuracy = "" if outcome.accuracy is None else f", held-out accuracy {outcome.accuracy:.3f}"
    seconds = outcome.cost.train_seconds
    return f"win rate {outcome.win_rate:.3f}, score {outcome.score:+.3f}{accuracy} (training took {seconds:.0f} s)"
