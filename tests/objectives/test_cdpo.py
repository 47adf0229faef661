import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.objectives.pairs import column, evaluate, from_gap

rates = st.floats(0.01, 0.49)


def of_logit(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return evaluate("cdpo", from_gap(x), beta=2.0, epsilon=epsilon).loss


def test_worked_example() -> None:
    """k z = 1, epsilon = 0.1: 0.9 * 0.313262 + 0.1 * 1.313262."""
    expected = 0.9 * math.log(1 + math.exp(-1)) + 0.1 * math.log(1 + math.exp(1))
    assert of_logit(column(1.0), 0.1).item() == pytest.approx(expected)
    assert expected == pytest.approx(0.4132617)


@given(st.floats(-50, 50))
def test_epsilon_zero_is_dpo(x: float) -> None:
    dpo = evaluate("dpo", from_gap(column(x)), beta=2.0).loss
    assert torch.equal(of_logit(column(x), 0.0), dpo)


@given(rates)
def test_slope_at_rest_and_minimum(epsilon: float) -> None:
    best = math.log((1 - epsilon) / epsilon)
    x = column(0.0, best).requires_grad_()
    value = of_logit(x, epsilon)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert slope[0].item() == pytest.approx(-(1 - 2 * epsilon) / 2)
    assert slope[1].item() == pytest.approx(0.0, abs=1e-12)
    assert value[1].item() == pytest.approx(-epsilon * math.log(epsilon) - (1 - epsilon) * math.log(1 - epsilon))
    assert (of_logit(column(best - 0.1, best + 0.1), epsilon) > value[1]).all()


@given(st.floats(-20, 20), rates)
def test_it_is_the_expected_loss_of_a_label_that_may_be_flipped(x: float, epsilon: float) -> None:
    kept, flipped = (evaluate("dpo", from_gap(column(sign * x)), beta=2.0).loss for sign in (1, -1))
    torch.testing.assert_close(of_logit(column(x), epsilon), (1 - epsilon) * kept + epsilon * flipped)
