"""The loop of a training worker in this process: a policy that is a number, figures that are made up."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from prefopt.config import RunConfig, parse_config
from prefopt.data.storage import Storage
from prefopt.distributed.training.checkpoints import CheckpointFolder
from prefopt.distributed.training.engine import ENGINE, StepOutcome
from prefopt.distributed.training.run import TrainingRun
from prefopt.distributed.training.segments import read_steps, read_verdicts
from tests.kit.health import TIMESTEPS, Values, pair_values

Figures = Callable[[int, float], Values]
"""The figures of a step counted from 1, at a learning rate."""


def calm(step: int, lr: float = 0.0) -> Values:
    """A step that learns."""
    return pair_values(np.random.default_rng(step), winner=-0.001, loser=0.001)


def collapsing(first: int, least_rate: float = 0.0) -> Figures:
    """Calm before step `first`; from there on the policy breaks wherever the rate is above `least_rate`."""

    def figures(step: int, lr: float) -> Values:
        if step < first or lr <= least_rate:
            return calm(step)
        return pair_values(np.random.default_rng(step), winner=2.0, loser=2.0)

    return figures


class Engine:
    """Its weights are how many steps were taken."""

    module, zero = None, 0

    def __init__(self) -> None:
        self.steps = 0
        self.parameters: dict[str, Any] = {}

    def save(self, directory: Path) -> None:
        (directory / ENGINE).mkdir()
        (directory / ENGINE / "state.json").write_text(json.dumps(self.steps))

    def load(self, directory: Path, *, universal: bool = False) -> None:
        self.steps = json.loads((directory / ENGINE / "state.json").read_text())


class _Trainer:
    def __init__(self, engine: Engine, figures: Figures) -> None:
        self._engine, self._figures = engine, figures

    def step(self, batches: int, lr: float) -> tuple[StepOutcome, dict[str, torch.Tensor]]:
        assert batches == self._engine.steps, "the data are those of the weights"
        self._engine.steps += 1
        values = self._figures(self._engine.steps, lr)
        return StepOutcome(True, 1.0), {name: torch.from_numpy(value) for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}


class _Averages:
    def save(self, directory: Path) -> None:
        directory.mkdir()

    def load(self, parts: Sequence[Path]) -> None:
        assert not parts


class _Paired:
    """Scores of images by how many steps the policy has taken."""

    def __init__(self, engine: Engine, scores: Callable[[int], list[float]]) -> None:
        self._engine, self._scores = engine, scores

    def scores(self) -> list[float]:
        return self._scores(self._engine.steps)


def loop_config(directory: Path, **train: Any) -> RunConfig:
    """A config for the loop alone."""
    tree = {
        "name": "kit",
        "store": str(directory / "store"),
        "model": {"path": "world"},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "train": {"global_batch": 32, "micro_batch": 32, "optimizer": {"lr": 1.0}, **train},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


class Loop:
    """A run below `directory`. Needs a process group of one."""

    def __init__(
        self,
        directory: Path,
        figures: Figures = calm,
        scores: Callable[[int], list[float]] | None = None,
        num_timesteps: int = TIMESTEPS,
        **train: Any,
    ) -> None:
        self.config = loop_config(directory, **train)
        self.work, self.logs = Storage(str(directory / "work")), Storage(str(directory / "logs"))
        self.engine = Engine()
        job: Any = SimpleNamespace(config=self.config, work=self.work, logs=self.logs, fingerprint="run")
        models: Any = SimpleNamespace(engine=self.engine)
        reader: Any = SimpleNamespace(get=lambda done, steps: done, settle=lambda: None)
        trainer: Any = _Trainer(self.engine, figures)
        averages: Any = _Averages()
        paired: Any = _Paired(self.engine, scores) if scores else None
        self.training = TrainingRun(job, models, averages, trainer, reader, num_timesteps, paired)

    def run(self) -> list[str]:
        """Train; returns the segments' paths."""
        return self.training.run()

    def steps(self) -> list[dict[str, Any]]:
        """Lines of steps.jsonl up to the newest checkpoint."""
        return [json.loads(line) for line in read_steps(self.work, self._segments()).splitlines()]

    def verdicts(self) -> list[dict[str, Any]]:
        """Lines of health.jsonl up to the newest checkpoint."""
        return [json.loads(line) for line in read_verdicts(self.work, self._segments()).splitlines()]

    def notes(self) -> list[str]:
        """What was left for the user."""
        return [line for file in self.logs.files("notes") for line in self.logs.read_bytes(file).decode().splitlines()]

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that are kept."""
        kept = {path.split("/")[1] for path in self.work.files("checkpoints")}
        return sorted(int(name.split(".")[0].removeprefix("step-")) for name in kept)

    def _segments(self) -> list[str]:
        newest, _ = CheckpointFolder(self.work, "run").newest()
        assert newest is not None
        return [entry.path for entry in newest.segments]
