import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import PairErrors
from prefopt.objectives.mapo import phi
from tests.objectives.pairs import column, evaluate


def test_worked_example() -> None:
    """phi(0.1) = 0.975208, phi(0.2) = 0.950833: the logit is 24.375."""
    result = evaluate("mapo", PairErrors(column(0.1), column(0.2)))
    odds = [0.5 * m / (math.exp(0.5 * m) - 1) for m in (0.1, 0.2)]
    logit = 1000 * (odds[0] - odds[1])
    assert float(result.metrics["logit"]) == pytest.approx(logit)
    assert logit == pytest.approx(24.375, abs=1e-3)
    assert result.loss.item() == pytest.approx(0.1 + 0.1 * math.log(1 + math.exp(-logit)))


def test_phi() -> None:
    assert phi(column(0.0), 0.5).item() == 1.0
    assert phi(column(0.1), 0.5).item() == pytest.approx(0.975208, abs=5e-7)
    m = column(0.1).requires_grad_()
    (slope,) = torch.autograd.grad(phi(m, 0.5).sum(), m)
    assert slope.item() == pytest.approx(-0.246, abs=5e-4)


@given(st.lists(st.floats(0, 20), min_size=2, max_size=2, unique=True), st.floats(0.1, 3))
def test_phi_falls_from_one(errors: list[float], scale: float) -> None:
    low, high = sorted(errors)
    first, second = phi(column(low, high), scale).tolist()
    assert 0 <= second <= first <= 1
    if high - low > 1e-9:
        assert second < first


@given(st.floats(-8, -1))
def test_phi_and_its_slope_are_smooth_near_zero(power: float) -> None:
    """Against 1 - x/2 + x^2/12 - x^4/720, whose next term is x^6/30240."""
    x = 10**power
    m = column(x).requires_grad_()
    value = phi(m, 1.0)
    (slope,) = torch.autograd.grad(value.sum(), m)
    assert value.item() == pytest.approx(1 - x / 2 + x**2 / 12 - x**4 / 720, abs=1e-10)
    assert slope.item() == pytest.approx(-1 / 2 + x / 6 - x**3 / 180, abs=1e-8)


@pytest.mark.parametrize("error", [0.0, 1e-30, 1e-5, 1e3, 1e6, 1e38])
def test_no_error_gives_nan(error: float) -> None:
    """The public arithmetic gives 0/0 at 0 and, in its gradient, inf/inf at large errors."""
    policy = [torch.tensor([error]).requires_grad_(), torch.tensor([0.1])]
    value = evaluate("mapo", PairErrors(*policy)).loss
    (slope,) = torch.autograd.grad(value.sum(), policy[0])
    assert value.isfinite().all()
    assert slope.isfinite().all()


@given(st.floats(0, 2))
def test_equal_errors_give_the_error_and_a_share_of_log_two(error: float) -> None:
    value = evaluate("mapo", PairErrors(column(error), column(error)), ranking=0.3).loss.item()
    assert value == pytest.approx(error + 0.3 * math.log(2))


@given(st.floats(0, 2), st.floats(0, 2))
def test_without_ranking_it_is_sft(w: float, loser: float) -> None:
    errors = PairErrors(column(w), column(loser))
    assert evaluate("mapo", errors, ranking=0.0).loss.item() == w == evaluate("sft", errors).loss.item()
