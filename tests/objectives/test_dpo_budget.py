import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import PairErrors
from tests.objectives.pairs import column, evaluate


def test_worked_example() -> None:
    """Drifts 0.03 and -0.02 of the winner, budget 0.01: 0.02 too much for the first; z = 0.07 and -0.02 there."""
    errors = PairErrors(column(0.33, 0.28), column(0.5, 0.3), column(0.3, 0.3), column(0.4, 0.34))
    result = evaluate("dpo_budget", errors, beta=20.0, penalty=5.0, budget=0.01)
    dpo = [math.log(1 + math.exp(-10 * z)) for z in (0.07, -0.02)]
    assert result.loss.tolist() == pytest.approx([dpo[0] + 5 * 0.02, dpo[1]])
    assert torch.as_tensor(result.metrics["excess"]).tolist() == pytest.approx([0.02, 0.0])


@given(*[st.floats(0, 1)] * 4)
def test_without_a_penalty_or_with_ample_budget_it_is_dpo(w: float, loser: float, ref_w: float, ref_l: float) -> None:
    errors = PairErrors(column(w), column(loser), column(ref_w), column(ref_l))
    dpo = evaluate("dpo", errors).loss
    assert torch.equal(evaluate("dpo_budget", errors, penalty=0.0).loss, dpo)
    assert torch.equal(evaluate("dpo_budget", errors, budget=1.0).loss, dpo)


def test_beyond_the_budget_the_winner_is_pulled_back_even_at_a_sure_pair() -> None:
    w = column(0.4).requires_grad_()
    errors = PairErrors(w, column(9.0), column(0.3), column(0.3))
    (slope,) = torch.autograd.grad(evaluate("dpo_budget", errors).loss.sum(), w)
    assert slope.item() == pytest.approx(2500.0)
    (slope,) = torch.autograd.grad(evaluate("dpo", errors).loss.sum(), w)
    assert slope.item() == pytest.approx(0.0)
