import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from prefopt.config.train import TrainConfig
from prefopt.distributed.training.engine import PolicyEngine, unscaled_norm

SCALE = 65536.0


@pytest.mark.parametrize(
    ("zero", "reported", "after"),
    [
        (0, 0.02 * SCALE, SCALE),
        (0, 0.02 * SCALE, 2 * SCALE),
        (1, 0.02, 2 * SCALE),
        (2, 0.02, SCALE),
        (3, 0.01, 2 * SCALE),
    ],
)
def test_the_loss_scale_is_not_in_the_norm(zero: int, reported: float, after: float) -> None:
    assert unscaled_norm(reported, zero, SCALE, after) == pytest.approx(0.02)


def test_the_norm_of_an_overflow_is_infinite() -> None:
    assert all(unscaled_norm(math.inf, zero, SCALE, SCALE / 2) == math.inf for zero in range(4))


class GrowingScale:
    """As DeepSpeed's optimizer at ZeRO 0: its norm is the scaled gradient's, and its scale may grow in a step."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.param_groups = [{"params": [parameter], "lr": 0.0}]
        self.loss_scale = SCALE

    def step(self) -> float:
        parameter = self.param_groups[0]["params"][0]
        norm = float(parameter.grad.norm())
        self.loss_scale *= 2
        return norm


class HalfPrecision:
    """What `PolicyEngine` asks of DeepSpeed's engine."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.optimizer, self._norm = GrowingScale(parameter), 0.0

    def is_gradient_accumulation_boundary(self) -> bool:
        return True

    def was_step_applied(self) -> bool:
        return True

    def step(self) -> None:
        self._norm = self.optimizer.step()

    def get_global_grad_norm(self) -> float:
        return self._norm


def test_a_step_in_fp16_reports_the_gradient_s_own_norm() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = SCALE * torch.tensor([0.012, 0.016])
    train = TrainConfig(precision="fp16")
    engine = PolicyEngine.__new__(PolicyEngine)
    engine.__dict__.update(
        SimpleNamespace(
            zero=0, _train=train, parameters={"weight": parameter}, _engine=HalfPrecision(parameter)
        ).__dict__
    )
    outcome = engine.step(1e-3)
    assert outcome is not None
    assert outcome.applied
    assert outcome.grad_norm == pytest.approx(0.02)
