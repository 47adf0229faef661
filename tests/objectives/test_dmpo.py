import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.objectives.pairs import column, evaluate, from_gap

rates = st.floats(1e-4, 0.45)


def of_logit(x: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    return evaluate("dmpo", from_gap(x), beta=2.0, epsilon=epsilon).loss


def test_worked_example() -> None:
    """At k z = 0 it is -ln 2 - 0.5 ln(epsilon (1 - epsilon))."""
    assert of_logit(column(0.0)).item() == pytest.approx(2.76123, abs=5e-6)
    p = 1 / (1 + math.exp(-1))
    expected = p * math.log(p / 0.8) + (1 - p) * math.log((1 - p) / 0.2)
    assert of_logit(column(1.0), 0.2).item() == pytest.approx(expected)


@given(rates)
def test_it_is_zero_at_the_target_and_positive_elsewhere(epsilon: float) -> None:
    best = math.log((1 - epsilon) / epsilon)
    x = column(best, best - 0.5, best + 0.5).requires_grad_()
    value = of_logit(x, epsilon)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value[0].item() == pytest.approx(0.0, abs=1e-12)
    assert slope[0].item() == pytest.approx(0.0, abs=1e-9)
    assert (value[1:] > 0).all()


@given(st.floats(-5, 5), rates)
def test_the_slope_is_what_a_reverse_divergence_has(x: float, epsilon: float) -> None:
    """p (1 - p) (x - ln((1 - epsilon) / epsilon)): of dpo's slope, -(1 - p), it has the opposite reach."""
    leaf = column(x).requires_grad_()
    (slope,) = torch.autograd.grad(of_logit(leaf, epsilon).sum(), leaf)
    p = 1 / (1 + math.exp(-x))
    assert slope.item() == pytest.approx(p * (1 - p) * (x - math.log((1 - epsilon) / epsilon)), abs=1e-9)


def test_pairs_far_on_the_wrong_side_are_let_go() -> None:
    x = column(-40.0).requires_grad_()
    (slope,) = torch.autograd.grad(of_logit(x).sum(), x)
    assert abs(slope.item()) < 1e-15
