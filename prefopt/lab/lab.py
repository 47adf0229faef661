"""A sitting of the laboratory: from its config and the outcomes that are there to more outcomes."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from prefopt.config import load_config
from prefopt.config.lab import BudgetConfig, LabConfig
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, PrefoptError
from prefopt.lab.cells import Cell, chosen_candidates, every_cell, grid_cells, tuning_cells
from prefopt.lab.jobs import Job, Jobs
from prefopt.lab.outcome import Outcome, as_lines, read_outcomes
from prefopt.lab.truth import check_truth
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
    chosen: dict[str, int] = field(default_factory=dict)
    """The candidate that each method took."""

    @property
    def finished(self) -> bool:
        """Whether every cell is done."""
        return len(self.found) == self.cells


class Lab:
    """A laboratory in its directory. What other sittings and machines have found counts."""

    def __init__(self, config: LabConfig, place: str, watcher: Watcher) -> None:
        """ConfigError if the run's config, or a cell's settings, make no run, or if `truth` is no reward."""
        self._config, self._watcher = config, watcher
        run = load_config(config.run)
        if config.truth is not None:
            check_truth(run, config.truth)
        self._cluster = run.cluster
        elsewhere = run.cluster.submit.kind != "here"
        place = place if "://" in place else os.path.abspath(place)
        self._laboratory = Laboratory(config.run, place, config.truth, elsewhere)
        folder, _, self._file = (config.outcomes or f"{place}/{OUTCOMES}").rpartition("/")
        self._folder = Storage(folder)
        self._folder.check_writable()
        self._check_cells()
        self._keys: dict[Cell, dict[str, str]] = {}
        self._outcomes = self._read()[0]
        self.model = run.model.path
        self._total = config.cells + len(list(tuning_cells(config)))

    def run(self, budget: BudgetConfig, start_engine: Callable[[], object]) -> Sitting:
        """Do the cells that are missing, as far as the budget goes. A cell that fails is told, and left for another
        sitting."""
        sitting = Sitting(self._total, self._found())
        self._watcher.progress(len(sitting.found), self._total, "cells")
        if self._cells_left(sitting) and not _spent(budget, 0, 0.0):
            with hired(self._laboratory, self._cluster, self._config.workers, start_engine) as workers:
                self._work(workers, sitting, budget)
        sitting.chosen = chosen_candidates(self._config, sitting.found)
        return sitting

    def _work(self, workers: Workers, sitting: Sitting, budget: BudgetConfig) -> None:
        jobs, under_way, begun, ended, started = Jobs(self._keys_of), 0, 0, 0, time.monotonic()
        jobs.add(self._cells_left(sitting))
        while True:
            while under_way < workers.size and not _spent(budget, begun, time.monotonic() - started):
                job = jobs.next()
                if job is None:
                    break
                begun += job.stage is None
                workers.begin(job)
                under_way += 1
            if not under_way:
                return
            for job, given in workers.finished():
                under_way -= 1
                self._end(jobs, job, given, sitting)
                if isinstance(given, Outcome):
                    ended += 1
                    self._tell(sitting, (time.monotonic() - started) / (ended + under_way / 2))

    def _tell(self, sitting: Sitting, pace: float) -> None:
        """`pace`: seconds a cell takes, those under way taken to be half done."""
        done = len(sitting.found)
        self._watcher.progress(done, self._total, "cells", seconds_left=pace * (self._total - done))

    def _end(self, jobs: Jobs, job: Job, given: Given | PrefoptError, sitting: Sitting) -> None:
        if isinstance(given, PrefoptError):
            what = job.cell.title if job.stage is None else f"{job.stage} for {job.cell.title}"
            self._watcher.say(f"{what}: failed. {given}")
            sitting.failed |= {lost.cell: given for lost in jobs.failed(job)}
            return
        jobs.done(job)
        if given is None:
            return
        self._keep(given)
        sitting.found = self._found()
        jobs.add(self._cells_left(sitting))
        self._watcher.say(f"{job.cell.title}: {_in_words(given)}")

    def _keep(self, outcome: Outcome) -> None:
        """In the file, to which other sittings add theirs."""
        while True:
            there, tag = self._read()
            self._outcomes = there | {(outcome.key, outcome.truth): outcome}
            lines = as_lines(self._outcomes.values()).encode()
            if tag is None:
                written = self._folder.create(self._file, lines)
            else:
                written = self._folder.replace(self._file, lines, tag) is not None
            if written:
                return

    def _read(self) -> tuple[dict[tuple[str, str | None], Outcome], str | None]:
        """Outcomes by key and truth, and the file's tag; None if there is no file."""
        found = self._folder.read_tagged(self._file)
        if found is None:
            return {}, None
        data, tag = found
        outcomes = read_outcomes(data, f"{self._folder.uri}/{self._file}")
        return {(one.key, one.truth): one for one in outcomes}, tag

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

    def _found(self) -> dict[Cell, Outcome]:
        """Outcomes of the cells that are known by now, in the cells' own names: a run may be two cells."""
        tuned = self._known(tuning_cells(self._config))
        return tuned | self._known(grid_cells(self._config, tuned))

    def _known(self, cells: Iterable[Cell]) -> dict[Cell, Outcome]:
        known = ((cell, self._outcomes.get((self._keys_of(cell)[OWN[-1]], self._config.truth))) for cell in cells)
        return {cell: _of(cell, outcome) for cell, outcome in known if outcome is not None}

    def _cells_left(self, sitting: Sitting) -> list[Cell]:
        known = (*tuning_cells(self._config), *grid_cells(self._config, sitting.found))
        return [cell for cell in known if cell not in sitting.found]

    def _keys_of(self, cell: Cell) -> dict[str, str]:
        if cell not in self._keys:
            self._keys[cell] = self._laboratory.keys(cell)
        return self._keys[cell]


def _of(cell: Cell, outcome: Outcome) -> Outcome:
    names = {"method": cell.method, "noise": cell.noise, "rate": cell.rate, "seed": cell.seed}
    return outcome.model_copy(update={**names, "candidate": cell.candidate, "settings": list(cell.settings)})


def _spent(budget: BudgetConfig, begun: int, seconds: float) -> bool:
    cells, minutes = budget.cells, budget.minutes
    return (cells is not None and begun >= cells) or (minutes is not None and seconds >= 60.0 * minutes)


def _in_words(outcome: Outcome) -> str:
    accuracy = "" if outcome.accuracy is None else f", held-out accuracy {outcome.accuracy:.3f}"
    seconds = outcome.cost.train_seconds
    return f"win rate {outcome.win_rate:.3f}, score {outcome.score:+.3f}{accuracy} (training took {seconds:.0f} s)"
