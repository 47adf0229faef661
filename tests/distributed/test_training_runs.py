"""Whole runs of six steps on warm workers, in Ray Train's place."""

import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training.segments import read_verdicts
from prefopt.errors import GuardError
from prefopt.models.identity import model_digest
from prefopt.models.loading import load_pipeline
from prefopt.objectives import OBJECTIVES
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.train import prepare
from tests.kit.models import RESOLUTION, tiny_pipeline
from tests.kit.training import fresh_output, read_steps, training_config, training_context, with_workers
from tests.kit.workers import WorkerGroup, WorkerGroups

ADAPTIVE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}
GENTLE = {"lr": 1e-4, "warmup_steps": 2}
RUNS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "adaptive": {"objective": ADAPTIVE},
    "global": {"objective": ADAPTIVE | {"u": {"normalise": "global"}}},
    "reference": {"objective": ADAPTIVE | {"u": {"normalise": "reference"}}},
    "offline": {"objective": ADAPTIVE | {"u": {"source": "offline", "warmup": 1}}},
    "product": {"objective": ADAPTIVE | {"u": {"source": "product", "warmup": 1}}},
    "four": {"micro_batch": 2},
    "lora": {"objective": ADAPTIVE, "method": "lora"},
    "smpo": {"objective": {"name": "smpo", "beta": 2000, "gamma": 3}, "inversion": "renoise"},
    "watched": {
        "health": {
            "window": 5,
            "evaluation": {
                "every": 2,
                "prompts": 3,
                "reward": "world/style",
                "sampler": {"steps": 2, "resolution": RESOLUTION},
            },
        }
    },
    "bf16": {"objective": ADAPTIVE, "precision": "bf16"},
    "kto": {"objective": {"name": "kto"}},
    "dro": {"objective": {"name": "dro_dpo", "beta": 200}},
    "sharded": {"objective": ADAPTIVE, "method": "lora", "zero": 2},
}


class Lab:
    """Runs by name and number of workers, each done once."""

    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self.model = tiny_pipeline(root / "model")
        self._done: dict[tuple[str, int], tuple[StageContext, StageResult]] = {}

    def group(self, workers: int) -> WorkerGroup:
        return self._workers.get(workers)

    def config(self, name: str, workers: int) -> RunConfig:
        return with_workers(training_config(self.model, self.root / "store", optimizer=GENTLE, **RUNS[name]), workers)

    def run(self, name: str, workers: int = 1) -> tuple[StageContext, StageResult]:
        if (name, workers) not in self._done:
            context = training_context(self.root / f"{name}-{workers}", self.config(name, workers))
            self._done[name, workers] = (context, self.group(workers).run_stage(context))
        return self._done[name, workers]


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), worker_groups)


def digests(context: StageContext, result: StageResult) -> dict[str, str]:
    return {file: hashlib.sha256(context.output.read_bytes(file)).hexdigest() for file in result.files}


def steps(context: StageContext) -> list[dict[str, Any]]:
    return read_steps(Path(context.output.path("")))


@pytest.mark.parametrize("name", ["dpo", "adaptive", "global", "lora", "product", "smpo", "watched", "kto", "dro"])
def test_one_and_two_workers_write_the_same_bytes(lab: Lab, name: str) -> None:
    assert digests(*lab.run(name, 1)) == digests(*lab.run(name, 2))


@pytest.mark.parametrize("name", list(RUNS))
def test_figures_of_a_run(lab: Lab, name: str) -> None:
    context, result = lab.run(name)
    lines = steps(context)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["lr"] == pytest.approx(5e-5)
    assert {line["lr"] for line in lines[1:]} == {1e-4}
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 and not line["skipped"] for line in lines)
    if name != "offline":
        at_rest = 0.5 if name == "kto" else math.log(2)
        assert lines[0]["loss"] == pytest.approx(at_rest, abs=2e-3 if name == "bf16" else 1e-6)
    assert lines[0]["accuracy"] == 0.5 or name == "bf16"
    assert lines[5]["error_w"] != lines[0]["error_w"]
    assert result.rows.in_ == result.rows.out == 48


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains(lab: Lab, tmp_path: Path, name: str) -> None:
    """With its own defaults, from a one-line change."""
    config = training_config(lab.model, lab.root / "store", objective={"name": name}, steps=2, optimizer=GENTLE)
    context = training_context(tmp_path, config)
    lab.group(1).run_stage(context)
    first, second = steps(context)
    assert math.isfinite(first["loss"])
    assert first["grad_norm"] > 0
    assert second["loss"] != first["loss"]
    assert {"loss", "accuracy"} <= first.keys() or name == "sft"


def test_objectives_differ(lab: Lab) -> None:
    names = [name for name in RUNS if name not in ("bf16", "sharded", "watched")]
    assert len({steps(lab.run(name)[0])[3]["loss"] for name in names}) == len(names)


def test_online_u_of_every_visit_is_kept(lab: Lab) -> None:
    context, result = lab.run("adaptive")
    assert "minority.parquet" in result.files
    table = context.output.read_table("minority.parquet")
    visits = context.parents["score"].storage.read_table("visits-00000.parquet")
    for name in ("visit_id", "pair_id", "vote_id"):
        assert table[name].to_pylist() == visits[name].to_pylist()
    u = table["u"].to_numpy().reshape(6, 8)
    assert table["step"].to_pylist() == [1 + i // 8 for i in range(48)]
    assert ((u >= 0) & (u <= 1)).all()
    assert (u[0] == 0).all()
    assert u[2:].min(axis=1).max() > 0
    lines = steps(context)
    assert np.allclose(u.mean(axis=1), [line["u_online_mean"] for line in lines])
    assert lines[3]["u_mean"] == lines[3]["u_online_mean"]
    assert lines[3]["u_offline_mean"] > 0
    assert -1 <= lines[3]["u_rank_correlation"] <= 1


@pytest.mark.parametrize("name", ["dpo", "smpo", "offline"])
def test_runs_without_online_u_write_no_minority_table(lab: Lab, name: str) -> None:
    context, result = lab.run(name)
    assert "minority.parquet" not in result.files
    assert "u_online_mean" not in steps(context)[0]


def test_product_is_online_times_offline(lab: Lab) -> None:
    lines = steps(lab.run("product")[0])
    assert lines[0]["u_mean"] == 0
    assert all(0 < line["u_mean"] < min(line["u_online_mean"], line["u_offline_mean"]) for line in lines[2:])


def test_the_full_model_loads_and_has_moved(lab: Lab) -> None:
    context, _ = lab.run("adaptive")
    tuned = StableDiffusionPipeline.from_pretrained(context.output.path("model")).unet.state_dict()
    base = load_pipeline(context.config.model).unet.state_dict()
    moved = [float((tuned[name] - base[name]).abs().max()) for name in base]
    assert 1e-5 < max(moved) < 1e-2
    assert sum(value > 0 for value in moved) > 0.9 * len(moved)


def test_the_adapter_loads_and_acts(lab: Lab) -> None:
    context, result = lab.run("lora")
    written = [file for file in result.files if file.startswith("model/")]
    assert written == ["model/README.md", "model/pytorch_lora_weights.safetensors"]
    assert result.summary["lora_base"] == model_digest(context.config.model)
    pipeline = load_pipeline(context.config.model)
    x, t, e = torch.ones(1, 4, 8, 8), torch.tensor([500]), torch.ones(1, 16, 32)
    before = pipeline.unet(x, t, e).sample
    pipeline.load_lora_weights(context.output.path("model"))
    assert not torch.equal(pipeline.unet(x, t, e).sample, before)


def newest_checkpoint(directory: Path) -> Path:
    """The directory of a stage's newest checkpoint."""
    return max((directory / "work" / "checkpoints").iterdir())


def interrupt(context: StageContext, directory: Path) -> StageContext:
    """What a run that died after its checkpoint at step 3 leaves behind, in another directory."""
    shutil.copytree(context.output.path("work"), directory / "work")
    shutil.rmtree(newest_checkpoint(directory))
    for file in (directory / "work" / "segments").glob("*-00000003-00000006.*"):
        file.unlink()
    return fresh_output(context, directory)


@pytest.mark.parametrize(("name", "workers"), [("adaptive", 1), ("adaptive", 2), ("lora", 1), ("kto", 2)])
def test_resumed_equals_uninterrupted(lab: Lab, tmp_path: Path, name: str, workers: int) -> None:
    context, result = lab.run(name, workers)
    again = interrupt(context, tmp_path / "again")
    resumed = lab.group(workers).run_stage(again)
    assert not Storage(again.output.path("work")).exists("segments/steps-00000000-00000006.jsonl")
    assert digests(again, resumed) == digests(context, result)


def test_a_run_at_zero_0_resumes_on_another_number_of_workers(lab: Lab, tmp_path: Path) -> None:
    context, result = lab.run("adaptive", 2)
    again = interrupt(context, tmp_path / "again")
    assert digests(again, lab.group(1).run_stage(again)) == digests(context, result)


def test_a_sharded_run_resumes_on_another_number_of_workers(lab: Lab, tmp_path: Path) -> None:
    """One case of the matrix in test_training_resize.py."""
    context, _ = lab.run("sharded", 2)
    again = replace(interrupt(context, tmp_path / "again"), config=lab.config("sharded", 1))
    lab.group(1).run_stage(again)
    expected, seen = steps(context), steps(again)
    assert seen[:3] == expected[:3]
    assert [line["loss"] for line in seen] == pytest.approx([line["loss"] for line in expected], rel=0, abs=1e-4)
    assert {line["step"]: line["u_mean"] > 0 for line in seen[2:]} == dict.fromkeys((3, 4, 5, 6), True)


def test_a_broken_newest_checkpoint_is_passed_over(lab: Lab, tmp_path: Path) -> None:
    context, result = lab.run("adaptive", 1)
    again = fresh_output(context, tmp_path / "again")
    shutil.copytree(context.output.path("work"), tmp_path / "again" / "work")
    broken = newest_checkpoint(tmp_path / "again") / "engine" / "mp_rank_00_model_states.pt"
    broken.write_bytes(broken.read_bytes()[:1000])
    assert digests(again, lab.group(1).run_stage(again)) == digests(context, result)
    assert not broken.exists()
    reason = "engine/mp_rank_00_model_states.pt has 1000 bytes, not"
    assert f"The checkpoint after 6 steps is passed over: {reason}" in said(again)


def said(context: StageContext) -> str:
    """What the workers left for the user."""
    return "".join(context.logs.read_bytes(file).decode() for file in context.logs.files("notes"))


def test_a_diverging_run_is_stopped_by_a_guard(lab: Lab, tmp_path: Path) -> None:
    config = training_config(lab.model, lab.root / "store", optimizer={"lr": 1e30}, guard={"skipped_steps": 3})
    context = training_context(tmp_path, config)
    job, _ = prepare(context)
    answer = lab.group(1).train(job)
    assert isinstance(answer["refused"], GuardError)
    assert "3 steps in a row were skipped" in str(answer["refused"])


def test_a_step_that_is_not_finite_is_skipped_and_counted(lab: Lab, tmp_path: Path) -> None:
    config = training_config(lab.model, tmp_path / "store", optimizer=GENTLE)
    context = training_context(tmp_path, config, broken=frozenset({5}))
    lab.group(1).run_stage(context)
    lines = steps(context)
    assert [line["skipped"] for line in lines].count(True) == 2
    assert all((line["loss"] is None) == line["skipped"] for line in lines)


def test_images_of_fixed_prompts_are_compared_with_those_of_the_start(lab: Lab, tmp_path: Path) -> None:
    context, result = lab.run("watched", 1)
    verdicts = [json.loads(line) for line in context.output.read_bytes("health.jsonl").splitlines()]
    evaluations = [line["evaluation"] for line in verdicts if line["evaluation"]]
    assert [found["step"] for found in evaluations] == sorted(found["step"] for found in evaluations)
    assert {found["n"] for found in evaluations} == {3}
    assert evaluations[-1]["step"] >= 4
    again = interrupt(context, tmp_path / "again")
    assert digests(again, lab.group(1).run_stage(again)) == digests(context, result)


def test_more_micro_batches_agree_across_workers_within_rounding(lab: Lab) -> None:
    """Gradients of more than two micro-batches are added in another order on two workers."""
    one, two = (read_steps(Path(lab.run("four", workers)[0].output.path(""))) for workers in (1, 2))
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in two], abs=1e-4)
    assert len(one) == 6


def verdict_lines(storage: Storage) -> list[dict[str, Any]]:
    """Verdicts in the segments of a run's newest checkpoint."""
    newest = json.loads((newest_checkpoint(Path(storage.path("")).parent) / "manifest.json").read_text())
    files = [entry["path"] for entry in newest["segments"]]
    return [json.loads(line) for line in read_verdicts(storage, files).splitlines()]


@pytest.mark.parametrize("action", ["pause", "lower_rate", "roll_back"])
def test_a_guard_acts_on_a_collapse(lab: Lab, tmp_path: Path, action: str) -> None:
    options = {
        "steps": 12,
        "checkpoint_every": 2,
        "keep_checkpoints": 9,
        "optimizer": {"lr": 0.1},
        "health": {"window": 5},
        "guard": {"action": action, "most": 2, "rate_factor": 0.5},
    }
    context = training_context(tmp_path, training_config(lab.model, lab.root / "store", **options))
    job, _ = prepare(context)
    answer = lab.group(1).train(job)
    assert isinstance(answer["refused"], GuardError)
    assert "The guard stopped training at step" in str(answer["refused"])
    lines = verdict_lines(job.work)
    actions = [line["action"] for line in lines if line["action"] != "go on"]
    if action == "pause":
        assert actions == ["stop"]
        assert lines[-1]["rate"] == 1.0
    else:
        assert actions == [action, action, "stop"]
        assert lines[-1]["rate"] == 0.25
