import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import WEIGHTS


def test_linear_worked_values() -> None:
    weight = WEIGHTS["linear"](torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64), 10.0, 1.0)
    assert weight.tolist() == pytest.approx([1, 1 / 2, 1 / 6, 1 / 11])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quadratic", 1 / (10 * 0.0625 + 1)),
        ("sqrt", 1 / (math.exp(5) + 1)),
        ("sigmoid", 1 / (math.exp(2.5) + 1)),
    ],
)
def test_other_weights_at_one_quarter(name: str, expected: float) -> None:
    assert WEIGHTS[name](torch.tensor([0.25], dtype=torch.float64), 10.0, 1.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", WEIGHTS)
@given(st.floats(0, 1), st.floats(0, 1))
def test_weight_lies_in_zero_to_one_and_falls(name: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    weight = WEIGHTS[name](torch.tensor([low, high], dtype=torch.float64), 10.0, 1.0)
    assert ((weight > 0) & (weight <= 1)).all()
    assert weight[1] <= weight[0]
    if high - low > 1e-3:
        assert weight[1] < weight[0]


@pytest.mark.parametrize(("name", "at_zero"), [("linear", 1), ("quadratic", 1), ("sqrt", 0.5), ("sigmoid", 0.5)])
def test_weight_of_an_undisputed_pair(name: str, at_zero: float) -> None:
    assert WEIGHTS[name](torch.zeros(1), 10.0, 1.0).item() == at_zero
