import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import PairErrors
from tests.objectives.pairs import column, evaluate, from_gap


def test_worked_example() -> None:
    """z = (0.30 - 0.40) - (0.28 - 0.41) = 0.03; k = 50."""
    errors = PairErrors(*(column(value) for value in (0.28, 0.41, 0.30, 0.40)))
    assert evaluate("inpo", errors, beta=100.0).loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)))


@given(st.floats(-0.05, 0.05))
def test_it_is_dpo_at_the_published_beta(z: float) -> None:
    errors = from_gap(column(z))
    assert torch.equal(evaluate("inpo", errors).loss, evaluate("dpo", errors, beta=2000.0).loss)
