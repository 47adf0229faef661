import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES, PairErrors
from tests.objectives.pairs import column, evaluate, global_means, make, random_table

KTO = OBJECTIVES["kto"]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


EXAMPLE = PairErrors(column(0.4), column(0.7), column(0.5), column(0.4))
"""g = 0.1 for the winner and -0.3 for the loser."""


@pytest.mark.parametrize(
    ("utility", "expected"),
    [
        ("sigmoid", ((1 - logistic(1.0)) + (1 - logistic(3.0))) / 2),
        ("loss_averse", ((1 - math.log(logistic(1.0))) + (1 - math.log(logistic(3.0)))) / 2),
        ("risk_seeking", ((1 + math.log(logistic(-1.0))) + (1 + math.log(logistic(-3.0)))) / 2),
    ],
)
def test_worked_example(utility: str, expected: float) -> None:
    """k = 10: x = 1 for the winner, y x = 3 for the loser; the mean of g, -0.1, gives z0 = 0."""
    errors = PairErrors(EXAMPLE.policy_w, EXAMPLE.policy_l, EXAMPLE.reference_w, EXAMPLE.reference_l, means={})
    assert float(KTO.means["gain"](errors, KTO.Params())) == pytest.approx(-0.1)
    for means in ({}, {"gain": -0.1}, {"gain": 0.0}):
        given = PairErrors(errors.policy_w, errors.policy_l, errors.reference_w, errors.reference_l, means=means)
        assert evaluate("kto", given, beta=20.0, utility=utility).loss.item() == pytest.approx(expected)


def test_worked_example_with_a_reference_point() -> None:
    """z0 = 0.05: x = 10 (0.1 - 0.05) and -10 (-0.3 - 0.05)."""
    errors = PairErrors(column(0.4), column(0.7), column(0.5), column(0.4), means={"gain": 0.05})
    result = evaluate("kto", errors, beta=20.0, weight_w=2.0, weight_l=0.5)
    assert result.loss.item() == pytest.approx((2 * (1 - logistic(0.5)) + 0.5 * (1 - logistic(3.5))) / 2)
    assert float(result.metrics["reference_point"]) == pytest.approx(0.05)


def test_beta_units() -> None:
    """The script's beta_kto multiplies g itself: its 1000 is 2000 here, the default."""
    errors = PairErrors(column(0.1), column(0.1), column(0.1007), column(0.1))
    expected = (1 - logistic(1000 * 0.0007) + 0.5) / 2
    assert evaluate("kto", errors).loss.item() == pytest.approx(expected)


@given(st.floats(0, 2), st.floats(0, 3), st.floats(0, 3))
def test_policy_equal_to_reference_gives_half_of_lambda(error: float, weight_w: float, weight_l: float) -> None:
    e = column(error)
    value = evaluate("kto", PairErrors(e, e, e, e), weight_w=weight_w, weight_l=weight_l).loss.item()
    assert value == pytest.approx((weight_w + weight_l) / 4)


@given(st.floats(-1, 0), st.floats(0, 0.2))
def test_the_reference_point_is_clamped_at_zero(low: float, high: float) -> None:
    table = random_table(3)
    assert torch.equal(
        evaluate("kto", make(table, means={"gain": low})).loss, evaluate("kto", make(table, means={})).loss
    )
    moved = evaluate("kto", make(table, means={"gain": high})).metrics["reference_point"]
    assert torch.as_tensor(moved).tolist() == pytest.approx([high] * 3)


def test_winner_and_loser_are_judged_alone() -> None:
    """Unlike a pair loss, the loss is the winner's part plus the loser's."""
    table = random_table(4)
    other = random_table(4, seed=1)
    mixed = table.clone()
    mixed[[1, 3]] = other[[1, 3]]
    crossed = other.clone()
    crossed[[1, 3]] = table[[1, 3]]
    total = [evaluate("kto", make(each, means={}), beta=3.0).loss for each in (table, other, mixed, crossed)]
    torch.testing.assert_close(total[0] + total[1], total[2] + total[3])


def test_the_reference_point_is_of_the_whole_batch_not_of_a_part() -> None:
    table, params = random_table(6), KTO.Params()
    whole = global_means("kto", [make(table)], params)["gain"]
    gains = (table[2] - table[0] + table[3] - table[1]) / 2
    assert whole == pytest.approx(float(gains.mean()))
    parts = [make(table[:, :2]), make(table[:, 2:])]
    assert global_means("kto", parts, params)["gain"] == pytest.approx(whole)


def test_risk_seeking_has_no_lower_bound_and_the_others_have() -> None:
    far = PairErrors(column(0.0), column(100.0), column(100.0), column(0.0))
    values = {
        utility: evaluate("kto", far, utility=utility).loss.item()
        for utility in ("sigmoid", "loss_averse", "risk_seeking")
    }
    assert values["risk_seeking"] < -1e4
    assert values["sigmoid"] == pytest.approx(0.0)
    assert values["loss_averse"] == pytest.approx(1.0)
