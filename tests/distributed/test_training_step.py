import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from prefopt.config.objective import AdaptiveDpoParams, EmaConfig, KtoParams, MapoParams, MinorityConfig, SftParams
from prefopt.config.train import OptimizerConfig, TrainConfig
from prefopt.distributed.training.averages import Averages, Shards
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.engine import StepOutcome, bear_the_least_scale, learning_rate
from prefopt.distributed.training.records import pair_arrays, rank_correlation, record_line, step_record
from prefopt.distributed.training.step import Trainer, gather_pairs
from prefopt.health.monitor import HealthMonitor
from prefopt.models.adapters import FAST, POLICY, SLOW
from prefopt.models.families import Conditioning

TOLD = Conditioning(torch.zeros(4, 1, 1))


class _Engine:
    """A linear policy with a step that can be told to be skipped."""

    zero = 0

    def __init__(self, outcomes: list[bool]) -> None:
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.parameters = {"weight": self.weight}
        self.outcomes = iter(outcomes)

    def __call__(self, xt: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return self.weight * xt

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, lr: float) -> StepOutcome:
        applied = next(self.outcomes)
        if applied:
            self.weight.data += 0.1
        self.weight.grad = None
        return StepOutcome(applied, 1.0)

    def float32_values(self, names: list[str]) -> Any:
        import contextlib

        return contextlib.nullcontext([self.weight.data])


class _Models:
    def __init__(self, outcomes: list[bool]) -> None:
        self.engine = _Engine(outcomes)
        self.copies = {SLOW: nn.Parameter(torch.ones(1)), FAST: nn.Parameter(torch.ones(1))}

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        weight = self.engine.weight if who == POLICY else self.copies.get(who, torch.ones(1))
        return (weight * batch.xt).detach()

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        return {"weight": self.copies[who]}


def _batch(value: float = 1.0) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    xt = value * torch.randn(4, 1, 2, 2, generator=generator)
    target = torch.randn(4, 1, 2, 2, generator=generator)
    return MicroBatch(xt, torch.zeros(4, dtype=torch.int64), TOLD, target, torch.ones(2), None, None)


def _trainer(outcomes: list[bool]) -> tuple[Trainer, Averages, _Models]:
    models = _Models(outcomes)
    averages = Averages(models, (SLOW, FAST), EmaConfig())
    params = AdaptiveDpoParams(u=MinorityConfig(warmup=0))
    return Trainer(models, averages, params), averages, models


@pytest.mark.usefixtures("process_group")
def test_a_skipped_step_changes_neither_averages_nor_running_scale() -> None:
    trainer, averages, models = _trainer([True, False, True])
    assert trainer.judge is not None
    trainer.step([_batch()], 1e-3)
    before = (trainer.judge.state_dict(), {k: v.clone() for k, v in averages.state_dict().items()})
    outcome, _ = trainer.step([_batch()], 1e-3)
    assert not outcome.applied
    assert trainer.judge.state_dict() == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in averages.state_dict().items())
    trainer.step([_batch()], 1e-3)
    assert trainer.judge.state_dict()["steps"] == 2
    assert not torch.equal(models.copies[SLOW], torch.tensor([1.1]))


@pytest.mark.usefixtures("process_group")
def test_the_copies_follow_the_shadows() -> None:
    trainer, _, models = _trainer([True, True])
    trainer.step([_batch()], 1e-3)
    assert models.copies[SLOW].item() == models.copies[FAST].item() == pytest.approx(1.1)
    trainer.step([_batch()], 1e-3)
    assert models.copies[FAST].item() == pytest.approx(2 / 11 * 1.1 + 9 / 11 * 1.2)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("applied", [True, False])
def test_broken_figures_of_a_step_are_recorded_and_judged(applied: bool) -> None:
    """Of an applied step they are a collapse; what the objective remembers of earlier steps stays finite."""
    trainer, _, _ = _trainer([applied])
    outcome, values = trainer.step([_batch(float("inf"))], 1e-3)
    record = json.loads(record_line(step_record(1, 1e-3, outcome, values)))
    assert record["skipped"] is not applied
    assert record["loss"] is None
    json.dumps(trainer.state_dict(), allow_nan=False)
    monitor = HealthMonitor(TrainConfig(steps=1))
    seen = monitor.observe(1, applied=applied, grad_norm=1.0, values=pair_arrays(values))
    assert seen.line is not None
    assert seen.line["broken"] == 2 * applied
    assert (seen.line["verdict"] == "collapsed") == applied


class _WithoutReference(_Models):
    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        raise AssertionError(f"the {who} was asked")


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("params", [SftParams(), MapoParams()], ids=lambda params: params.name)
def test_an_objective_without_a_reference_asks_for_none(params: Any) -> None:
    models = _WithoutReference([True])
    _, values = Trainer(models, Averages(models, (), EmaConfig()), params).step([_batch()], 1e-3)
    assert {"loss", "error_w", "error_l"} <= values.keys()
    assert not {"z", "reference_w", "distance"} & values.keys()
    observed = HealthMonitor(TrainConfig(objective=params)).observe(
        1, applied=True, grad_norm=1.0, values=pair_arrays(values)
    )
    assert observed.figures["winner_drift"] is None


@pytest.mark.usefixtures("process_group")
def test_means_are_those_of_the_whole_global_batch() -> None:
    """KTO's reference point, in a step of two micro-batches: the mean gain of all four pairs."""
    models = _Models([False, True])
    models.engine.weight.data -= 0.3
    trainer = Trainer(models, Averages(models, (), EmaConfig()), KtoParams())
    _, values = trainer.step([_batch(), _batch(2.0)], 1e-3)
    gain = 0.5 * ((values["reference_w"] - values["error_w"]) + (values["reference_l"] - values["error_l"]))
    assert float(gain.mean()) > 0.1
    assert values["reference_point"].tolist() == pytest.approx([float(gain.mean())] * 4)


@pytest.mark.usefixtures("process_group")
def test_gathered_pairs_keep_the_order_of_micro_batches() -> None:
    observed = [{"a": torch.tensor([1.0, 2.0]).double(), "z": torch.tensor([[1.0, 2.0], [5.0, 6.0]]).double()}]
    observed.append({name: value + 10 for name, value in observed[0].items()})
    values = gather_pairs(observed)
    assert values["a"].tolist() == [1, 2, 11, 12]
    assert values["z"].tolist() == [[1, 2, 11, 12], [5, 6, 15, 16]]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 5, 6])
def test_shards_cover_a_tensor_once(count: int, size: int) -> None:
    tensor = torch.arange(1.0, size + 1)
    parts = [Shards(rank, count).part(tensor) for rank in range(count)]
    assert torch.equal(torch.cat(parts)[:size], tensor)
    assert len({part.numel() for part in parts}) == 1


def test_learning_rate_warms_up_linearly_and_stays() -> None:
    config = OptimizerConfig(lr=1e-3, warmup_steps=4)
    assert [learning_rate(config, step) for step in range(6)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])
    assert learning_rate(OptimizerConfig(lr=1e-3), 0) == 1e-3


def test_rank_correlation() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert rank_correlation(np.zeros(3), np.array([3.0, 2.0, 1.0])) is None


@pytest.mark.usefixtures("process_group")
def test_an_overflow_at_the_least_loss_scale_is_a_skipped_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's own scaler of ZeRO 1 to 3 would raise, and training would start again and again."""
    from deepspeed.runtime.fp16 import loss_scaler

    monkeypatch.setattr(loss_scaler, "dist", dist)
    scaler = loss_scaler.DynamicLossScaler(
        init_scale=2, scale_window=1000, min_scale=1, delayed_shift=2, consecutive_hysteresis=False
    )
    bear_the_least_scale(SimpleNamespace(loss_scaler=scaler))
    for _ in range(5):
        scaler.update_scale(True)
    assert scaler.cur_scale == 1
    bear_the_least_scale(SimpleNamespace())
