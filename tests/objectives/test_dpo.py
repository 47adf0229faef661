import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from prefopt.objectives import OBJECTIVES, PairErrors

DPO = OBJECTIVES["dpo"]


def from_gap(z: torch.Tensor) -> PairErrors:
    """Errors whose gap is z: the reference holds it all."""
    zero = torch.zeros_like(z)
    return PairErrors(zero, zero, reference_w=z, reference_l=zero)


def loss(z: torch.Tensor, beta: float) -> torch.Tensor:
    return DPO(from_gap(z), DPO.Params(beta=beta)).loss


def test_worked_example() -> None:
    """z = (0.30 - 0.40) - (0.28 - 0.41) = 0.03, logit = 0.5 * 100 * 0.03 = 1.5."""
    errors = PairErrors(*(torch.tensor([value], dtype=torch.float64) for value in (0.28, 0.41, 0.30, 0.40)))
    result = DPO(errors, DPO.Params(beta=100.0))
    assert result.loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)))
    assert result.loss.item() == pytest.approx(0.2014132779)
    assert float(result.metrics["logit"]) == pytest.approx(1.5)
    assert float(result.metrics["accuracy"]) == 1.0


def test_no_gap_gives_log_two_and_slope_minus_half_k() -> None:
    policy_w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    value = DPO(PairErrors(policy_w, zero, zero, zero), DPO.Params(beta=2000.0)).loss
    (slope,) = torch.autograd.grad(value.sum(), policy_w)
    assert value.item() == pytest.approx(math.log(2))
    assert -slope.item() == pytest.approx(-0.5 * 1000)


@given(st.floats(-0.05, 0.05))
def test_it_is_binary_cross_entropy_and_swapping_negates_the_logit(z: float) -> None:
    z_B = torch.tensor([z], dtype=torch.float64)
    logit = 1000.0 * z_B
    torch.testing.assert_close(
        loss(z_B, 2000.0), binary_cross_entropy_with_logits(logit, torch.ones_like(logit)).reshape(1)
    )
    torch.testing.assert_close(loss(-z_B, 2000.0), loss(z_B, 2000.0) + logit)


@given(st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=2, unique=True))
def test_loss_falls_as_the_gap_rises(gaps: list[float]) -> None:
    low, high = sorted(gaps)
    first, second = loss(torch.tensor([low, high], dtype=torch.float64), 2000.0).tolist()
    assert second <= first
    if high - low > 1e-9:
        assert second < first


def test_beta_units() -> None:
    """Scripts with logit = beta * z need twice their value here: 1000 -> 2000 (Adaptive-DPO), 500 -> 1000 (NPO)."""
    z = torch.tensor([3e-4, -2e-3], dtype=torch.float64)
    for script_beta, canonical in ((1000.0, 2000.0), (500.0, 1000.0)):
        torch.testing.assert_close(loss(z, canonical), -torch.nn.functional.logsigmoid(script_beta * z))
