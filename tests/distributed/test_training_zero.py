"""Every ZeRO stage keeps true averages, resumes and rolls back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prefopt.config import RunConfig
from prefopt.config.health import GuardConfig
from prefopt.data.storage import Storage
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.training.segments import read_steps as read_lines
from prefopt.distributed.training.segments import read_verdicts
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.families import predict
from prefopt.models.loading import load_pipeline
from prefopt.stages.train import prepare
from tests.distributed.test_training_runs import digests, interrupt, newest_checkpoint, steps
from tests.kit.models import tiny_pipeline
from tests.kit.training import training_config, training_context
from tests.kit.workers import WorkerGroup, WorkerGroups

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARDED = {"stage3_param_persistence_threshold": 0}
ADAPTIVE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}


class Lab:
    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self.model = tiny_pipeline(root / "model")

    def group(self, zero: int) -> WorkerGroup:
        return self._workers.get(2, zero)

    def config(self, zero: int, **options: Any) -> RunConfig:
        options = {"objective": ADAPTIVE, "optimizer": {"lr": 1e-5}, **options}
        return training_config(self.model, self.root / "store", zero=zero, workers=2, **options)


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("zero"), worker_groups)


def _options(zero: int) -> dict[str, Any]:
    return SHARDED if zero == 3 else {}


AVERAGED = [("full", 1), ("lora", 2), ("full", 3), ("lora", 0)]


@pytest.mark.parametrize(
    ("method", "zero"),
    [
        *AVERAGED,
        *(
            pytest.param(method, zero, marks=pytest.mark.matrix)
            for method in ("full", "lora")
            for zero in range(4)
            if (method, zero) not in AVERAGED
        ),
    ],
)
def test_annotators_are_the_averages_of_the_policy(lab: Lab, tmp_path: Path, method: str, zero: int) -> None:
    u = {"warmup": 1, "ema": {"slow": 0.9, "fast": 0.2, "ramp": False}}
    config = lab.config(zero, method=method, optimizer={"lr": 1e-3}, objective=ADAPTIVE | {"u": u})
    job, _ = prepare(training_context(tmp_path, config))
    seen = lab.group(zero).probe(replace(job, zero_options=_options(zero)), steps=4)
    batch, errors = seen["batch"], seen["errors"]
    plain = {who: _average(seen["history"], decay) for who, decay in (("slow", 0.9), ("fast", 0.2))}
    plain["policy"] = seen["history"][-1]
    for who, weights in plain.items():
        unet = load_pipeline(config.model).unet
        if method == "lora":
            add_adapters(unet, config.train.lora, (POLICY,), config.seed)
        unet.load_state_dict(weights, strict=method == "full")
        with torch.no_grad():
            expected = denoising_error(predict(unet, batch.xt, batch.t, batch.conditioning), batch.target)
        assert torch.allclose(errors[who], expected, rtol=0, atol=1e-6)
    for who in ("slow", "fast", "reference"):
        assert float((errors[who] - errors["policy"]).abs().min()) > 1e-6
    assert float((errors["slow"] - errors["fast"]).abs().min()) > 1e-6


def _average(history: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    """A plain loop in float64; the first update copies."""
    average = {name: value.double() for name, value in history[0].items()}
    for weights in history[1:]:
        average = {name: decay * average[name] + (1 - decay) * weights[name].double() for name in average}
    return {name: value.float() for name, value in average.items()}


@pytest.mark.parametrize(
    ("zero", "method"),
    [(2, "full"), (3, "lora"), *(pytest.param(zero, "full", marks=pytest.mark.matrix) for zero in (1, 3))],
)
def test_resumed_equals_uninterrupted(lab: Lab, tmp_path: Path, zero: int, method: str) -> None:
    context = training_context(tmp_path / "whole", lab.config(zero, method=method))
    result = lab.group(zero).run_stage(context, **_options(zero))
    again = interrupt(context, tmp_path / "again")
    resumed = lab.group(zero).run_stage(again, **_options(zero))
    assert digests(again, resumed) == digests(context, result)


@pytest.mark.parametrize("zero", [1, pytest.param(3, marks=pytest.mark.matrix)])
def test_bf16_runs_sharded(lab: Lab, tmp_path: Path, zero: int) -> None:
    context = training_context(tmp_path, lab.config(zero, precision="bf16", steps=3))
    lab.group(zero).run_stage(context, **_options(zero))
    assert [line["skipped"] for line in steps(context)] == [False] * 3


@pytest.mark.parametrize(
    ("method", "zero", "lr", "budget"),
    [
        *(("full", zero, 0.03, 0.15) for zero in (0, 3)),
        *(pytest.param("full", zero, 0.03, 0.15, marks=pytest.mark.matrix) for zero in (1, 2)),
        pytest.param("lora", 3, 0.4, 0.01, marks=pytest.mark.matrix),
    ],
)
def test_a_roll_back_returns_to_the_weights_of_its_checkpoint(
    lab: Lab, tmp_path: Path, method: str, zero: int, lr: float, budget: float
) -> None:
    """The rate warms up until the winner's error leaves its budget. The first step after the roll-back has the loss
    that it had in a run without a guard, to the last digit; the step after it has not, for the rate is halved."""
    guard = {"action": "roll_back", "most": 9, "rate_factor": 0.5, "budget": budget}
    config = lab.config(
        zero,
        method=method,
        steps=14,
        checkpoint_every=2,
        keep_checkpoints=9,
        optimizer={"lr": lr, "warmup_steps": 14},
        objective={"name": "dpo", "beta": 200},
        health={"window": 2},
    )
    free = training_context(tmp_path / "free", config)
    lab.group(zero).run_stage(free, **_options(zero))
    guarded = config.model_copy(update={"train": config.train.model_copy(update={"guard": GuardConfig(**guard)})})
    job, _ = prepare(training_context(tmp_path / "guarded", guarded))
    answer = lab.group(zero).train(replace(job, zero_options=_options(zero)))
    segments = answer.get("segments") or segments_of(job.work)
    verdicts = [json.loads(line) for line in read_verdicts(job.work, segments).splitlines()]
    back = [line["step"] for line in verdicts if line["action"] == "roll_back"]
    assert back
    losses = {line["step"]: line["loss"] for line in steps(free)}
    again = [json.loads(line) for line in read_lines(job.work, segments).splitlines()]
    slower = next(line for line in again if line["lr"] < lr * line["step"] / 14 * 0.99)
    assert 2 < slower["step"] <= back[0]
    assert slower["loss"] == losses[slower["step"]]
    following = next(line for line in again if line["step"] == slower["step"] + 1)
    assert following["loss"] != losses[following["step"]]


def segments_of(work: Storage) -> list[str]:
    """Of the newest checkpoint."""
    newest = json.loads((newest_checkpoint(Path(work.path("")).parent) / "manifest.json").read_text())
    return [entry["path"] for entry in newest["segments"]]
