import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES
from prefopt.objectives.smpo import relabel
from tests.objectives.pairs import column, evaluate, from_gap, make, random_table

ALL = ("weight", "label", "margin")
unit = st.floats(0, 1)


def test_worked_example() -> None:
    """k z - margin = 1.5 - 0.5 = 1, label 0.7, weight 2: 2 (0.7 * 0.313262 + 0.3 * 1.313262)."""
    errors = from_gap(column(1.5), weight=column(2.0), label=column(0.7), margin=column(0.5))
    expected = 2 * (0.7 * math.log(1 + math.exp(-1)) + 0.3 * math.log(1 + math.exp(1)))
    assert evaluate("weighted_dpo", errors, beta=2.0, use=ALL).loss.item() == pytest.approx(expected)


@given(st.floats(-0.01, 0.01))
def test_neutral_values_give_dpo(z: float) -> None:
    errors = from_gap(column(z), weight=column(1.0), label=column(1.0), margin=column(0.0))
    dpo = evaluate("dpo", errors).loss
    for use in (ALL, (), ("label",)):
        assert torch.equal(evaluate("weighted_dpo", errors, use=use).loss, dpo)


@given(st.floats(-0.01, 0.01), st.floats(0, 0.49))
def test_a_smoothed_label_is_cdpo(z: float, epsilon: float) -> None:
    errors = from_gap(column(z), label=column(1 - epsilon))
    torch.testing.assert_close(
        evaluate("weighted_dpo", errors).loss, evaluate("cdpo", errors, epsilon=epsilon).loss, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("weight", ["linear", "sqrt"])
def test_the_adaptive_weight_and_margin_give_adaptive_dpo(weight: str) -> None:
    adaptive = evaluate("adaptive_dpo", make(random_table(20)), weight=weight, margin_scale="logit")
    metrics = {key: torch.as_tensor(adaptive.metrics[key]) for key in ("weight", "margin")}
    errors = make(random_table(20), **metrics)
    mine = evaluate("weighted_dpo", errors, beta=2000.0, use=("weight", "margin")).loss
    torch.testing.assert_close(mine, adaptive.loss)


@given(st.floats(-5, 5), unit, st.floats(-3, 3))
def test_swapping_the_pair_with_its_label_and_margin_changes_nothing(x: float, label: float, margin: float) -> None:
    kept = from_gap(column(x), weight=column(1.0), label=column(label), margin=column(margin))
    swapped = from_gap(column(-x), weight=column(1.0), label=1 - column(label), margin=column(-margin))
    torch.testing.assert_close(
        evaluate("weighted_dpo", kept, beta=2.0, use=ALL).loss,
        evaluate("weighted_dpo", swapped, beta=2.0, use=ALL).loss,
        rtol=1e-9,
        atol=1e-12,
    )


def test_a_tie_holds_the_logit_and_no_weight_gives_no_gradient() -> None:
    z = column(0.0, 1.0, -1.0).requires_grad_()
    tie = evaluate("weighted_dpo", from_gap(z, label=column(0.5, 0.5, 0.5)), beta=2.0)
    (slope,) = torch.autograd.grad(tie.loss.sum(), z)
    assert slope[0].item() == 0.0
    assert slope[1].item() > 0 > slope[2].item()
    left_out = evaluate("weighted_dpo", from_gap(z, weight=torch.zeros(3)), use=("weight",))
    (slope,) = torch.autograd.grad(left_out.loss.sum(), z)
    assert not slope.any()


def test_a_value_that_is_not_used_may_be_missing_and_one_that_is_may_not() -> None:
    params = OBJECTIVES["weighted_dpo"].Params
    errors = make(random_table(2), weight=None, margin=None)
    OBJECTIVES["weighted_dpo"](errors, params())
    with pytest.raises(ValueError, match=r"PairErrors\.weight"):
        OBJECTIVES["weighted_dpo"](errors, params(use=("label", "weight")))


def test_a_soft_label_from_a_reward_fits_too() -> None:
    alpha = relabel("blend", column(0.9), column(1.0), 0.5)
    assert evaluate("weighted_dpo", from_gap(column(0.0), label=alpha)).loss.item() == pytest.approx(math.log(2))
