import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.objectives.pairs import column, evaluate, from_gap

FORMS = pytest.mark.parametrize(("form", "k"), [("published", 1.0), ("logit", 1000.0)])


def loss(z: torch.Tensor, form: str, tau: float | None = None, beta: float = 2000.0) -> torch.Tensor:
    return evaluate("ipo", from_gap(z), form=form, tau=tau, beta=beta).loss


def test_worked_example() -> None:
    """tau = 100 aims at z = 0.005; with k = 1000, tau = 0.5 aims at k z = 1."""
    assert loss(column(0.003), "published").item() == pytest.approx(0.002**2)
    assert loss(column(0.003), "logit").item() == pytest.approx((3 - 1) ** 2)
    assert loss(column(0.003), "logit", tau=0.25).item() == pytest.approx((3 - 2) ** 2)


@FORMS
@given(st.floats(-0.02, 0.02), st.floats(0.1, 200))
def test_it_is_zero_at_the_target_and_symmetric_about_it(form: str, k: float, away: float, tau: float) -> None:
    target = 1 / (2 * tau) / k
    right, left = loss(column(target + away), form, tau), loss(column(target - away), form, tau)
    assert loss(column(target), form, tau).item() == pytest.approx(0.0, abs=1e-20)
    assert right.item() == pytest.approx(left.item(), rel=1e-6, abs=1e-20)
    assert right.item() == pytest.approx((k * away) ** 2, rel=1e-6, abs=1e-20)


def test_published_form_ignores_beta_and_logit_form_scales_with_it() -> None:
    z = column(0.001, -0.004)
    assert torch.equal(loss(z, "published", beta=1.0), loss(z, "published", beta=5000.0))
    torch.testing.assert_close(loss(z, "logit", beta=4000.0), loss(2 * z, "logit", beta=2000.0))
    torch.testing.assert_close(loss(z, "logit", tau=100.0, beta=2.0), loss(z, "published", tau=100.0))


def test_published_loss_is_almost_linear_where_training_takes_place() -> None:
    """|z| is 1e-4 to 1e-3 and the target 0.005: the slope changes little."""
    z = column(-1e-3, 0.0, 1e-3).requires_grad_()
    (slope,) = torch.autograd.grad(loss(z, "published").sum(), z)
    assert (slope / slope[1]).tolist() == pytest.approx([1.2, 1.0, 0.8])
