import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.objectives.pairs import column, evaluate, from_gap

rates = st.floats(0.0, 0.45)
logits = st.floats(-30, 30)


def of_logit(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return evaluate("rdpo", from_gap(x), beta=2.0, epsilon=epsilon).loss


def dpo(x: torch.Tensor) -> torch.Tensor:
    return evaluate("dpo", from_gap(x), beta=2.0).loss


def test_worked_example() -> None:
    """k z = 1, epsilon = 0.2: (0.8 * 0.313262 - 0.2 * 1.313262) / 0.6."""
    expected = (0.8 * math.log(1 + math.exp(-1)) - 0.2 * math.log(1 + math.exp(1))) / 0.6
    assert of_logit(column(1.0), 0.2).item() == pytest.approx(expected)
    assert expected == pytest.approx(-0.0200716, abs=1e-7)


@given(logits)
def test_epsilon_zero_is_dpo(x: float) -> None:
    assert torch.equal(of_logit(column(x), 0.0), dpo(column(x)))


@given(logits, rates)
def test_it_is_unbiased_under_flips(x: float, epsilon: float) -> None:
    mean = (1 - epsilon) * of_logit(column(x), epsilon) + epsilon * of_logit(column(-x), epsilon)
    torch.testing.assert_close(mean, dpo(column(x)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_it_is_unbiased_under_simulated_flips_and_dpo_is_not(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100_000, generator=generator, dtype=torch.float64) + 0.5
    flipped = torch.rand(x.shape, generator=generator) < epsilon
    noisy = torch.where(flipped, -x, x)
    spread = float((of_logit(noisy, epsilon) - dpo(x)).std()) / len(x) ** 0.5
    assert abs(float(of_logit(noisy, epsilon).mean() - dpo(x).mean())) < 3 * spread
    assert abs(float(dpo(noisy).mean() - dpo(x).mean())) > 3 * spread


@given(rates)
def test_slopes(epsilon: float) -> None:
    x = column(0.0, 60.0).requires_grad_()
    (slope,) = torch.autograd.grad(of_logit(x, epsilon).sum(), x)
    assert slope[0].item() == pytest.approx(-1 / (2 * (1 - 2 * epsilon)))
    assert slope[1].item() == pytest.approx(-epsilon / (1 - 2 * epsilon), abs=1e-12)


def test_it_has_no_lower_bound() -> None:
    assert of_logit(column(1e6), 0.1).item() < -1e5
