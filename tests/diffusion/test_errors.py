import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.diffusion import denoising_error, error_gap

values = st.lists(st.floats(0, 10, width=32), min_size=4, max_size=4)


def test_error_is_the_mean_per_sample() -> None:
    prediction = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    target = torch.tensor([[0.0, 0.0], [3.0, 2.0]]).reshape(2, 2, 1, 1)
    assert denoising_error(prediction, target).tolist() == [2.5, 2.0]


def test_error_is_wide_and_does_not_overflow_in_half_precision() -> None:
    error = denoising_error(torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16), torch.zeros(1, 1, 2, 2))
    assert error.dtype == torch.float32
    assert error.item() == 90000.0
    assert denoising_error(torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1)).dtype == torch.float64


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 1, 1)])
def test_shapes_must_agree(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        denoising_error(torch.zeros(2, 1, 1, 1) if len(shape) == 4 else torch.zeros(shape), torch.zeros(shape))


def test_gap_by_hand() -> None:
    gap = error_gap(torch.tensor([0.5]), torch.tensor([0.3]), torch.tensor([0.4]), torch.tensor([0.6]))
    assert gap.item() == pytest.approx(0.4)


@given(values)
def test_swapping_winner_and_loser_negates_the_gap(numbers: list[float]) -> None:
    ref_w, ref_l, pol_w, pol_l = (torch.tensor([value]) for value in numbers)
    assert torch.equal(error_gap(ref_l, ref_w, pol_l, pol_w), -error_gap(ref_w, ref_l, pol_w, pol_l))


@given(values)
def test_policy_equal_to_reference_has_no_gap(numbers: list[float]) -> None:
    w, loser = torch.tensor(numbers[:2]), torch.tensor(numbers[2:])
    assert torch.equal(error_gap(w, loser, w, loser), torch.zeros(2))
