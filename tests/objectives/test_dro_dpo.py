import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES
from tests.objectives.pairs import column, evaluate, from_gap, global_means, make, random_table
from tests.objectives.scalar import softplus

DRO = OBJECTIVES["dro_dpo"]


def test_worked_example() -> None:
    """Losses ln 2 and ln 4 at lambda = 1: tilts 2 and 4 of mean 3, so W = 2/3 and 4/3."""
    z = column(0.0, -math.log(3))
    errors = from_gap(z)
    tilts = DRO.means["tilt"](errors, DRO.Params(beta=2.0))
    assert tilts.tolist() == pytest.approx([2.0, 4.0])
    result = evaluate("dro_dpo", from_gap(z, means={"tilt": 3.0}), beta=2.0)
    assert torch.as_tensor(result.metrics["weight"]).tolist() == pytest.approx([2 / 3, 4 / 3])
    assert result.loss.tolist() == pytest.approx([2 / 3 * math.log(2), 4 / 3 * math.log(4)])


def log_mean_exp(policy: torch.Tensor, table: torch.Tensor, params: Any) -> torch.Tensor:
    """lambda log E exp(h l / lambda), by definition."""
    ratio = table[6] if params.calibration == "weight" else 1.0
    loss = OBJECTIVES["dpo"](
        make(table, policy_w=policy[0], policy_l=policy[1]), OBJECTIVES["dpo"].Params(beta=params.beta)
    ).loss
    return params.temperature * (ratio * loss / params.temperature).exp().mean().log()


@given(
    st.integers(1, 8),
    st.integers(0, 99),
    st.floats(0.2, 20),
    st.sampled_from(["none", "weight"]),
    st.integers(0, 8),
)
@settings(max_examples=60)
def test_its_gradient_is_the_log_mean_exponentials(
    size: int, seed: int, temperature: float, calibration: str, cut: int
) -> None:
    """However the batch is split, given the exact mean of the whole."""
    params = DRO.Params(beta=4.0, temperature=temperature, calibration=calibration)
    table = random_table(size, seed)
    policy = table[:2].clone().requires_grad_()
    (exact,) = torch.autograd.grad(log_mean_exp(policy, table, params), policy)

    parts = [part for part in (slice(0, cut), slice(cut, size)) if table[:, part].shape[1]]
    means = global_means("dro_dpo", [make(table[:, part]) for part in parts], params)
    mine = torch.zeros_like(exact)
    for part in parts:
        leaf = table[:2, part].clone().requires_grad_()
        errors = make(table[:, part], policy_w=leaf[0], policy_l=leaf[1], means=means)
        (mine[:, part],) = torch.autograd.grad(DRO(errors, params).loss.sum() / size, leaf)
    torch.testing.assert_close(mine, exact, rtol=1e-9, atol=1e-12)


def test_its_gradient_is_that_of_finite_differences_too() -> None:
    params, table, step = DRO.Params(beta=4.0, temperature=0.5), random_table(5), 1e-6
    means = global_means("dro_dpo", [make(table)], params)
    leaf = table[:2].clone().requires_grad_()
    errors = make(table, policy_w=leaf[0], policy_l=leaf[1], means=means)
    (slope,) = torch.autograd.grad(DRO(errors, params).loss.mean(), leaf)

    def robust(rows: list[list[float]]) -> float:
        losses = [softplus(-2 * ((r_w - r_l) - (p_w - p_l))) for p_w, p_l, r_w, r_l, *_ in rows]
        return 0.5 * math.log(sum(math.exp(loss / 0.5) for loss in losses) / len(losses))

    rows = table.T.tolist()
    for pair in range(5):
        for side in (0, 1):
            up, down = [list(row) for row in rows], [list(row) for row in rows]
            up[pair][side] += step
            down[pair][side] -= step
            assert slope[side, pair].item() == pytest.approx((robust(up) - robust(down)) / (2 * step), abs=1e-8)


@given(st.integers(1, 6), st.integers(0, 99))
def test_harder_pairs_weigh_more_and_weights_average_to_one(size: int, seed: int) -> None:
    params, table = DRO.Params(beta=4.0), random_table(size, seed)
    means = global_means("dro_dpo", [make(table)], params)
    weight = torch.as_tensor(DRO(make(table, means=means), params).metrics["weight"])
    loss = evaluate("dpo", make(table), beta=4.0).loss
    assert weight.mean().item() == pytest.approx(1.0)
    assert torch.equal(weight.argsort(), loss.argsort())


def test_without_a_mean_or_at_a_high_temperature_the_weight_is_the_ratio() -> None:
    table = random_table(6)
    for params in (DRO.Params(), DRO.Params(calibration="weight")):
        expected = evaluate("dpo", make(table)).loss * (table[6] if params.calibration == "weight" else 1.0)
        torch.testing.assert_close(DRO(make(table), params).loss, expected)
    params = DRO.Params(temperature=1e9, calibration="weight")
    means = global_means("dro_dpo", [make(table)], params)
    torch.testing.assert_close(DRO(make(table, means=means), params).loss, expected, rtol=1e-4, atol=0)


def test_losses_beyond_the_reach_of_exp_stay_finite() -> None:
    z = column(0.0, -1.0, -1e6).requires_grad_()
    params = DRO.Params(beta=2000.0)
    tilts = DRO.means["tilt"](from_gap(z), params)
    assert tilts.isfinite().all()
    loss = DRO(from_gap(z, means={"tilt": float(tilts.mean())}), params).loss
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert loss.isfinite().all()
    assert slope.isfinite().all()
