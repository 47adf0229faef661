"""The loop of a worker with made-up figures: what is recorded when, and what a guard does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from prefopt.distributed.training import recorder
from tests.kit.loop import Loop

PAIRED = {"every": 5, "prompts": 8, "reward": "world/style"}


@pytest.fixture(autouse=True)
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def better(steps: int) -> list[float]:
    """Each image better than that of the start."""
    return [float(steps > 0)] * 8


class _Told:
    def __init__(self) -> None:
        self.figures: dict[int, dict[str, float]] = {}

    def log(self, step: int, figures: dict[str, float]) -> None:
        self.figures.setdefault(step, {}).update(figures)

    def save(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(("steps", "measured"), [(5, [5]), (23, [5, 10, 15, 20])])
def test_each_paired_evaluation_is_recorded_when_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, measured: list[int]
) -> None:
    """Also the last one, and on to the trackers."""
    told: Any = _Told()
    monkeypatch.setattr(recorder, "open_trackers", lambda *_: told)
    loop = Loop(tmp_path, scores=better, steps=steps, health={"evaluation": PAIRED})
    loop.run()
    lines = {line["step"]: line for line in loop.steps()}
    assert [step for step, line in lines.items() if "paired_wins" in line] == measured
    assert [step for step, line in told.figures.items() if "paired_wins" in line] == measured
    assert lines[5]["paired_wins"] == told.figures[5]["paired_wins"] == 1.0
    assert lines[5]["paired_wins_low"] == pytest.approx(0.6756, abs=1e-4)
    assert lines[5]["paired_wins_high"] == 1.0


def test_a_step_is_judged_after_its_paired_evaluation(tmp_path: Path) -> None:
    loop = Loop(tmp_path, scores=better, steps=15, health={"evaluation": PAIRED})
    loop.run()
    assert [(line["step"], line["evaluation"]["step"]) for line in loop.verdicts()] == [(10, 10), (15, 15)]
