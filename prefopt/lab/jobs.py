"""Which work of the laboratory is next: shared stages before the cells that need them, each once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

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
    needs: tuple[str, ...] = ()
    """Jobs whose output it reads."""
    after: str | None = None
    """A job that it waits for without need of it, so that no row is made twice."""


class Jobs:
    """The work that is known, and how far it is. Cells may be added at any time."""

    def __init__(self, keys: Callable[[Cell], Keys]) -> None:
        self._keys = keys
        self._waiting: dict[str, Job] = {}
        self._known: set[str] = set()
        self._done: set[str] = set()
        self._lost: set[str] = set()
        self._first_score: dict[str, str] = {}

    def add(self, cells: Iterable[Cell]) -> None:
        """Plan these cells, in this order, and what they share."""
        for cell in cells:
            for job in self._jobs(cell):
                if job.name not in self._known:
                    self._known.add(job.name)
                    self._waiting[job.name] = job

    def next(self) -> Job | None:
        """The first job that can begin; it is not given again. None while all others wait."""
        for name, job in self._waiting.items():
            if self._done.issuperset(job.needs) and job.after in self._done | self._lost | {None}:
                return self._waiting.pop(name)
        return None

    def done(self, job: Job) -> None:
        """A job is finished."""
        self._done.add(job.name)

    def failed(self, job: Job) -> list[Job]:
        """A job failed, and with it all that need it: the cells among them, which are waited for no more."""
        lost = [job]
        self._lost.add(job.name)
        while found := [one for one in self._waiting.values() if self._lost.intersection(one.needs)]:
            for one in found:
                self._lost.add(one.name)
                lost.append(self._waiting.pop(one.name))
        return [one for one in lost if one.stage is None]

    def _jobs(self, cell: Cell) -> list[Job]:
        keys = self._keys(cell)
        ingest, inject, score = (f"{stage} {keys[stage]}" for stage in SHARED)
        # The first score of a data set fills the stores, and the others find their rows there.
        first = self._first_score.setdefault(ingest, score)
        return [
            Job(ingest, cell, "ingest"),
            Job(inject, cell, "inject", (ingest,)),
            Job(score, cell, "score", (inject,), None if first == score else first),
            Job(f"{OWN[-1]} {keys[OWN[-1]]}", cell, None, (score,)),
        ]
