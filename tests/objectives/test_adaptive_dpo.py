import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from prefopt.minority import WEIGHTS, minority_metric, reference_scale
from prefopt.objectives import OBJECTIVES, PairErrors

ADAPTIVE, DPO = OBJECTIVES["adaptive_dpo"], OBJECTIVES["dpo"]
gaps = st.lists(st.floats(-0.01, 0.01), min_size=1, max_size=6).map(lambda z: torch.tensor(z, dtype=torch.float64))


def from_gap(z: torch.Tensor, u: torch.Tensor, margin_mean: torch.Tensor | float | None = None) -> PairErrors:
    zero = torch.zeros_like(z)
    return PairErrors(zero, zero, reference_w=z, reference_l=zero, u=u, margin_mean=margin_mean)


@given(gaps, st.sampled_from(["linear", "quadratic"]), st.sampled_from(["none", "linear", "quadratic"]))
def test_without_doubt_and_mean_it_is_dpo(z: torch.Tensor, weight: str, margin: str) -> None:
    errors = from_gap(z, u=torch.zeros_like(z), margin_mean=0.0)
    adaptive = ADAPTIVE(errors, ADAPTIVE.Params(beta=2000.0, weight=weight, margin=margin)).loss
    assert torch.equal(adaptive, DPO(errors, DPO.Params(beta=2000.0)).loss)


@given(gaps)
def test_all_annotators_at_rest_give_dpo(z: torch.Tensor) -> None:
    u = minority_metric(reference_scale(torch.zeros(3, len(z)), 15.0)).u
    errors = from_gap(z, u=u, margin_mean=0.0)
    assert torch.equal(ADAPTIVE(errors, ADAPTIVE.Params()).loss, DPO(errors, DPO.Params(beta=2000.0)).loss)


@pytest.mark.parametrize(
    ("margin", "scale", "shift"),
    [
        ("none", "published", 0.0),
        ("quadratic", "published", -0.25 / 1000 + 2e-4),
        ("linear", "published", -0.5 / 1000 + 2e-4),
        ("quadratic", "logit", -0.25 + 1000 * 2e-4),
        ("linear", "logit", -0.5 + 1000 * 2e-4),
    ],
)
def test_worked_example(margin: str, scale: str, shift: float) -> None:
    """k = 1000, z = 1e-3, u = 0.5: logit 1, W = 1 / 6."""
    errors = from_gap(torch.tensor([1e-3]).double(), u=torch.tensor([0.5]).double(), margin_mean=2e-4)
    result = ADAPTIVE(errors, ADAPTIVE.Params(beta=2000.0, margin=margin, margin_scale=scale))
    assert result.loss.item() == pytest.approx(math.log(1 + math.exp(-(1 - shift))) / 6)
    assert float(result.metrics["weight"]) == pytest.approx(1 / 6)
    assert float(result.metrics["margin"]) == pytest.approx(shift)
    assert float(result.metrics["u"]) == 0.5
    assert float(result.metrics["logit"]) == pytest.approx(1.0)


def test_parity_with_the_public_arithmetic() -> None:
    """The public code's loss, written out for M = 3, B = 4, beta_dpo = 1000, rho = 15."""
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1e-3
    scaled = 15 * z / z.norm(dim=1, keepdim=True)
    u = (1 - scaled.sigmoid().mean(0)).abs() * scaled.std(0).clamp(max=1)
    public = -(1 / (10 * u + 1)) * logsigmoid(1000 * z[0] - (-(u**2) / 1000 + z[0].mean()))

    errors = from_gap(z[0], u=minority_metric(reference_scale(z, 15.0)).u, margin_mean=z[0].mean())
    torch.testing.assert_close(ADAPTIVE(errors, ADAPTIVE.Params(beta=2000.0)).loss, public)


@pytest.mark.parametrize("weight", WEIGHTS)
@given(st.floats(-0.01, 0.01), st.floats(0, 1), st.floats(0, 1))
def test_more_doubt_gives_less_loss_without_a_margin(weight: str, z: float, first: float, second: float) -> None:
    u = torch.tensor(sorted((first, second)), dtype=torch.float64)
    errors = from_gap(torch.full_like(u, z), u=u)
    values = ADAPTIVE(errors, ADAPTIVE.Params(weight=weight, margin="none")).loss
    assert values[1] <= values[0]


@pytest.mark.parametrize("name", ["u", "margin_mean", "reference_w"])
def test_missing_side_inputs_are_named(name: str) -> None:
    value = torch.zeros(2)
    fields: dict[str, Any] = {"reference_w": value, "reference_l": value, "u": value, "margin_mean": 0.0} | {name: None}
    with pytest.raises(ValueError, match=name):
        ADAPTIVE(PairErrors(value, value, **fields), ADAPTIVE.Params())


def test_margin_none_needs_no_mean() -> None:
    value = torch.zeros(2)
    ADAPTIVE(from_gap(value, u=value), ADAPTIVE.Params(margin="none"))
