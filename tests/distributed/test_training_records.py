"""Lines of steps.jsonl and health.jsonl, and the segments they travel in."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from prefopt.config.train import TrainConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training.engine import StepOutcome
from prefopt.distributed.training.records import flat_figures, pair_arrays, record_line, step_record
from prefopt.distributed.training.segments import SegmentWriter, read_steps, read_verdicts
from prefopt.distributed.training.step import PairValues
from prefopt.health.monitor import HealthMonitor
from tests.kit.health import pair_values

DOCS = Path(__file__).parents[2] / "docs" / "health.md"


def values_of(seed: int = 0) -> PairValues:
    """All figures that an adaptive step hands over."""
    made = pair_values(np.random.default_rng(seed), winner=0.01, loser=0.02)
    values = {name: torch.from_numpy(value) for name, value in made.items()}
    errors = {name: values[f"error_{name}"] - values[f"reference_{name}"] for name in ("w", "l")}
    rng = np.random.default_rng(seed)
    ones = {name: torch.from_numpy(rng.uniform(size=32)) for name in ("u", "u_online", "u_offline", "weight", "margin")}
    accuracy = 0.5 * (torch.sign(values["logit"]) + 1.0)
    drifts = {"drift_w": errors["w"], "drift_l": errors["l"]}
    return values | drifts | ones | {"accuracy": accuracy, "alpha": accuracy, "factor": 1.0 + 0.0 * accuracy}


def test_a_record_holds_the_figures_of_health() -> None:
    monitor = HealthMonitor(TrainConfig())
    values = values_of()
    seen = monitor.observe(1, applied=True, grad_norm=2.0, values=pair_arrays(values))
    record = step_record(1, 1e-5, StepOutcome(True, 2.0), values, seen.figures)
    assert record["winner_drift"] == pytest.approx(0.01, abs=2e-3)
    assert len(record["accuracy_by_timestep"]) == 5
    assert sum(record["pairs_by_timestep"]) == 32
    assert record["distance"] == pytest.approx(float(values["distance"].mean()))
    assert not {"timestep", "z", "reference_w"} & record.keys()
    assert json.loads(record_line(record)) == record


def test_a_skipped_step_has_a_line_too() -> None:
    monitor = HealthMonitor(TrainConfig())
    values = {name: torch.full_like(value, math.nan) for name, value in values_of().items()}
    seen = monitor.observe(1, applied=False, grad_norm=math.inf, values=pair_arrays(values))
    record = step_record(1, 1e-5, StepOutcome(False, math.inf), values, seen.figures)
    assert record["skipped"] is True
    assert (record["loss"], record["grad_norm"], record["winner_drift"]) == (None, None, None)
    json.loads(record_line(record))


def test_every_key_is_documented() -> None:
    """docs/health.md explains each key of steps.jsonl and of health.jsonl."""
    monitor = HealthMonitor(TrainConfig(steps=1))
    values = values_of()
    seen = monitor.observe(1, applied=True, grad_norm=2.0, values=pair_arrays(values))
    record = step_record(1, 1e-5, StepOutcome(True, 2.0), values, seen.figures)
    assert seen.line is not None
    steps, verdicts = DOCS.read_text().split("## Keys of health.jsonl")
    for keys, text in ((record, steps.split("## Keys of steps.jsonl")[1]), (seen.line, verdicts)):
        documented = {
            key for row in re.findall(r"^\| (.*?) \|", text, flags=re.M) for key in re.findall(r"`(\w+)`", row)
        }
        assert set(keys) <= documented


def test_trackers_get_plain_numbers() -> None:
    record = {"step": 3, "loss": 0.5, "grad_norm": None, "skipped": False, "parts": [0.5, None, 1], "word": "x"}
    assert flat_figures(record) == {"step": 3.0, "loss": 0.5, "skipped": 0.0, "parts/0": 0.5, "parts/2": 1.0}


def test_verdicts_travel_in_segments(tmp_path: Path) -> None:
    writer, storage = SegmentWriter(0), Storage(str(tmp_path))
    written: dict[str, bytes] = {}
    for step in range(1, 5):
        writer.add(f"{step}\n", None, f"verdict {step}\n" if step % 2 == 0 else None)
        if step in (2, 3, 4):
            written |= writer.take()
    for name, content in written.items():
        storage.write_bytes(name, content)
    assert read_steps(storage, sorted(written)) == b"1\n2\n3\n4\n"
    assert read_verdicts(storage, sorted(written)) == b"verdict 2\nverdict 4\n"
    assert len(written) == 5
