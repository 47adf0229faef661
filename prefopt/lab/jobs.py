"""Which work of the laboratory is next: shared stages before the cells that need them, each once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prefopt.errors import PrefoptError
from prefopt.lab.cells import Cell
from prefopt.lab.work import OWN, SHARED

Keys = Mapping[str, str]
"""Of a cell's stages, by name."""


@dataclass(frozen=True)
class Job:
    """A shared stage or a cell."""

    name: str
    """Unique: by what it makes."""
    cell: Cell
    """The cell, or the first one that needs the stage."""
    stage: str | None
    """None: the cell itself."""
    needs: str | None = None
    """The job whose output it reads."""
    fills: str | None = None
    """The data set whose stores it fills: the first that does so works alone, and the others find its rows."""

    @property
    def title(self) -> str:
        """The cell in words, after the stage if it is one."""
        return self.cell.title if self.stage is None else f"{self.stage} for {self.cell.title}"


class Jobs:
    """How far the work is. What is wanted is said each time: what nobody wants any more is never begun."""

    def __init__(self, keys: Callable[[Cell], Keys]) -> None:
        self._keys = keys
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._lost: dict[str, PrefoptError] = {}
        self._first: dict[str, str] = {}
        """By data set, the job that fills its stores."""

    def waiting(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells that have not begun and that no failure has taken; of two that are one run the first."""
        by_run: dict[str, Cell] = {}
        for cell in cells:
            if self.failure(cell) is None:
                by_run.setdefault(self._jobs(cell)[-1].name, cell)
        return [cell for name, cell in by_run.items() if name not in self._begun]

    def next(self, cells: Iterable[Cell]) -> Job | None:
        """The first job that can begin of what these cells, which wait, need; it is not given again. None while all
        others wait."""
        for cell in cells:
            job = next(job for job in self._jobs(cell) if job.name not in self._begun)
            if self._can_begin(job):
                self._begun.add(job.name)
                if job.fills:
                    self._first.setdefault(job.fills, job.name)
                return job
        return None

    def done(self, job: Job) -> None:
        """A job is finished."""
        self._done.add(job.name)

    def failed(self, job: Job, error: PrefoptError) -> None:
        """A job failed, and with it all cells that need it, now or later."""
        self._lost[job.name] = error
        if job.fills and self._first[job.fills] == job.name:
            del self._first[job.fills]

    def failure(self, cell: Cell) -> PrefoptError | None:
        """Why the cell will not be done, if it or a stage that it needs has failed."""
        return next((self._lost[job.name] for job in self._jobs(cell) if job.name in self._lost), None)

    def _can_begin(self, job: Job) -> bool:
        awaited = (job.needs, self._first.get(job.fills) if job.fills else None)
        return self._done.issuperset(name for name in awaited if name is not None)

    def _jobs(self, cell: Cell) -> list[Job]:
        """Each needs the one before."""
        keys = self._keys(cell)
        ingest, inject, score = (f"{stage} {keys[stage]}" for stage in SHARED)
        return [
            Job(ingest, cell, "ingest"),
            Job(inject, cell, "inject", ingest),
            Job(score, cell, "score", inject, fills=ingest),
            Job(f"{OWN[-1]} {keys[OWN[-1]]}", cell, None, score),
        ]
