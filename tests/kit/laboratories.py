"""Small laboratories: their configs, and outcomes made by hand."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from prefopt.config.cluster import ClusterConfig
from prefopt.config.lab import LabConfig, load_lab
from prefopt.errors import PrefoptError
from prefopt.lab.cells import Cell
from prefopt.lab.jobs import Job
from prefopt.lab.outcome import Cost, Outcome
from prefopt.lab.work import Laboratory
from prefopt.lab.workers import Given, Workers
from tests.kit.pipelines import world_tree

SEEDED = ["seed", "ingest.sources.0.seed", "inject.seed", "score.visits.seed", "evaluate.seed"]
CLEAN: dict[str, Any] = {"inject.flips": []}
FLIPS: dict[str, Any] = {"inject.flips": [{"kind": "symmetric", "rate": 0.25}]}


def lab_tree(**branches: Any) -> dict[str, Any]:
    """Two objectives, two noises, one seed; nothing is tuned."""
    return {
        "name": "small-lab",
        "run": "run.yaml",
        "seeds": [3],
        "seeded": SEEDED,
        "noises": {"clean": CLEAN, "flips 25 %": FLIPS},
        "methods": {
            "dpo": {"set": {"train.objective": {"name": "dpo", "beta": 2000}}},
            "adaptive_dpo": {"set": {"train.objective": {"name": "adaptive_dpo", "u": {"warmup": 0}}}},
        },
        "truth": "world/true",
        "workers": 2,
        **branches,
    }


def write_lab(place: Path, **branches: Any) -> Path:
    """A laboratory on a tiny run of the embedded world, as files."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "run.yaml").write_text(yaml.safe_dump(world_tree(place)))
    path = place / "lab.yaml"
    path.write_text(yaml.safe_dump(lab_tree(**branches), sort_keys=False))
    return path


def loaded(place: Path, **branches: Any) -> LabConfig:
    """The config of `write_lab`."""
    return load_lab(write_lab(place, **branches))


def outcome(cell: Cell, win_rate: float = 0.6, **fields: Any) -> Outcome:
    """A cell's outcome with this headline win rate."""
    made: dict[str, Any] = {
        "key": f"{cell.name}",
        "method": cell.method,
        "noise": cell.noise,
        "rate": cell.rate,
        "seed": cell.seed,
        "candidate": cell.candidate,
        "settings": list(cell.settings),
        "cpu": "none",
        "accuracy": 0.6,
        "accuracy_by_group": {},
        "win_rates": {"world/true": win_rate},
        "scores": {"world/true": win_rate - 0.5},
        "distance": None,
        "diversity": None,
        "flipped": 0,
        "minority": None,
        "labels": 10,
        "detected": {},
        "cost": Cost(score_forwards=0.0, train_forwards=8.0, score_seconds=1.0, train_seconds=1.0),
    }
    return Outcome(**{**made, **fields})


class Told:
    """What a sitting says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: list[int] = []
        self.left: list[float | None] = []

    def progress(self, done: int, total: int, what: str, how: str = "", seconds_left: float | None = None) -> None:
        self.done.append(done)
        self.left.append(seconds_left)

    def say(self, line: str) -> None:
        self.lines.append(line)


def made(config: LabConfig, cell: Cell, **fields: Any) -> Outcome:
    """An outcome under the cell's own key."""
    key = Laboratory(config.run, f"{config.run}.keys", config.truth).keys(cell)["evaluate"]
    return outcome(cell, key=key, truth=config.truth, **fields)


class Hands:
    """Workers that do nothing: jobs end in the order in which they began, and well, but for those in `errors`, by
    their titles."""

    def __init__(self, config: LabConfig, size: int = 1, errors: Mapping[str, PrefoptError] | None = None) -> None:
        self.size = size
        self.begun: list[str] = []
        self.before_end: Callable[[Job], None] = lambda job: None
        self.cluster: ClusterConfig | None = None
        """That they were hired for."""
        self._config, self._errors = config, errors or {}
        self._under_way: list[Job] = []

    @contextmanager
    def hired(self, laboratory: Laboratory, cluster: ClusterConfig, *_: object) -> Iterator[Workers]:
        """In place of `prefopt.lab.workers.hired`."""
        self.cluster = cluster
        yield self

    @property
    def cells(self) -> list[str]:
        """Titles of the cells that began."""
        return [name for name in self.begun if " for " not in name]

    def begin(self, job: Job) -> None:
        self.begun.append(job.title)
        self._under_way.append(job)
        assert len(self._under_way) <= self.size

    def finished(self) -> list[tuple[Job, Given | PrefoptError]]:
        job = self._under_way.pop(0)
        self.before_end(job)
        return [(job, self._errors.get(job.title) or (made(self._config, job.cell) if job.stage is None else None))]
