import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import PairErrors
from tests.objectives.pairs import column, evaluate


def test_worked_example() -> None:
    result = evaluate("sft", PairErrors(column(0.28, 0.5, 0.3), column(0.41, 0.1, 0.3)))
    assert result.loss.tolist() == pytest.approx([0.28, 0.5, 0.3])
    assert torch.as_tensor(result.metrics["accuracy"]).tolist() == [1.0, 0.0, 0.5]


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_losers_and_references_play_no_part(w: float, loser: float, reference: float) -> None:
    """Losers add nothing to the mean either: it is the winners' mean error, whatever their number."""
    given = PairErrors(column(w), column(loser), column(reference), column(reference))
    assert evaluate("sft", given).loss.item() == w
    assert evaluate("sft", PairErrors(column(w), column(0.0))).loss.item() == w


def test_gradient_is_one_for_the_winner() -> None:
    policy = [column(0.3, 0.4).requires_grad_(), column(0.5, 0.1).requires_grad_()]
    slopes = torch.autograd.grad(evaluate("sft", PairErrors(*policy)).loss.sum(), policy, allow_unused=True)
    assert slopes[0].tolist() == [1.0, 1.0]
    assert slopes[1] is None
