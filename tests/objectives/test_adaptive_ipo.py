import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import minority_metric, reference_scale
from tests.objectives.pairs import column, evaluate, from_gap

FORMS = pytest.mark.parametrize("form", ["published", "logit"])


@pytest.mark.parametrize(
    ("form", "scale", "distance"),
    [
        ("published", "published", 1e-3 + (-0.25 / 1000 + 2e-4) / 1000 - 0.005),
        ("published", "logit", 1e-3 + (-0.25 + 0.2) / 1000 - 0.005),
        ("logit", "published", 1.0 - (-0.25 / 1000 + 2e-4) - 1.0),
        ("logit", "logit", 1.0 - (-0.25 + 0.2) - 1.0),
    ],
)
def test_worked_example(form: str, scale: str, distance: float) -> None:
    """k = 1000, z = 1e-3, u = 0.5, mean of z_0 = 2e-4: W = 1 / 6."""
    errors = from_gap(column(1e-3), u=column(0.5), margin_mean=2e-4)
    result = evaluate("adaptive_ipo", errors, beta=2000.0, form=form, margin_scale=scale)
    assert result.loss.item() == pytest.approx(distance**2 / 6)
    assert float(result.metrics["weight"]) == pytest.approx(1 / 6)


@FORMS
@given(st.floats(-0.01, 0.01))
def test_without_doubt_and_mean_it_is_ipo(form: str, z: float) -> None:
    errors = from_gap(column(z), u=column(0.0), margin_mean=0.0)
    assert torch.equal(
        evaluate("adaptive_ipo", errors, form=form).loss, evaluate("ipo", errors, form=form, beta=2000.0).loss
    )


def test_parity_with_the_public_arithmetic() -> None:
    """W (z_0 + (-u^2 / k^2 + mean(z_0) / k) - 1 / (2 tau))^2 for M = 3, B = 4, k = 1000, rho = 15, tau = 100."""
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1e-3
    scaled = 15 * z / z.norm(dim=1, keepdim=True)
    u = (1 - scaled.sigmoid().mean(0)).abs() * scaled.std(0).clamp(max=1)
    public = 1 / (10 * u + 1) * (z[0] + (-(u**2) / 1000**2 + z[0].mean() / 1000) - 1 / 200) ** 2

    errors = from_gap(z[0], u=minority_metric(reference_scale(z, 15.0)).u, margin_mean=z[0].mean())
    torch.testing.assert_close(evaluate("adaptive_ipo", errors, beta=2000.0, form="published").loss, public)


@FORMS
def test_the_logged_margin_is_what_comes_off_the_logit(form: str) -> None:
    errors = from_gap(column(1e-3), u=column(0.5), margin_mean=2e-4)
    result = evaluate("adaptive_ipo", errors, form=form, margin_scale="logit", tau=1.0)
    k = 1000.0 if form == "published" else 1.0
    distance = float(result.metrics["logit"]) - float(result.metrics["margin"]) - 0.5 * k
    assert result.loss.item() == pytest.approx((distance / k) ** 2 / 6)
