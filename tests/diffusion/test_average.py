"""Which predictions of the re-noising take the step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.diffusion import NoiseSchedule, Predict, ddim_step, exact_levels, invert

SCHEDULE = NoiseSchedule.scaled_linear()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curved(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x + t.reshape(-1, 1, 1, 1) / 1000)


def linear(slope: float) -> Predict:
    """A denoiser that is linear in x, with a slope that grows with the level."""
    return lambda x, t: slope * t.reshape(-1, 1, 1, 1) / 1000 * x


def predictions(x0: torch.Tensor, t: torch.Tensor, count: int) -> list[torch.Tensor]:
    """e_0, e_1, ... of one step from clean data to t."""
    one, ab = torch.ones(len(t), dtype=torch.float64), SCHEDULE.levels(t)
    y, found = x0, []
    for _ in range(count):
        found.append(curved(y, t))
        y = ddim_step(x0, found[-1], one, ab)
    return found


@given(st.integers(0, 6), st.data())
@settings(max_examples=40)
def test_the_step_is_taken_by_the_mean_of_the_range(renoise_steps: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, renoise_steps))
    high = data.draw(st.integers(low + 1, renoise_steps + 1))
    x0, t = normal(2, 1, 2, 2), torch.tensor([300, 800])
    mean = torch.stack(predictions(x0, t, renoise_steps + 1)[low:high]).mean(dim=0)
    expected = ddim_step(x0, mean, torch.ones(2, dtype=torch.float64), SCHEDULE.levels(t))
    xt = invert(curved, x0, t, SCHEDULE, num_steps=1, renoise_steps=renoise_steps, average=(low, high))
    torch.testing.assert_close(xt, expected)


@pytest.mark.parametrize("grid", ["exact", "reference"])
def test_by_default_all_are_averaged(grid: str) -> None:
    x0, t = normal(3, 1, 2, 2), torch.tensor([5, 300, 800])
    for renoise_steps in range(4):
        plain = invert(curved, x0, t, SCHEDULE, num_steps=5, renoise_steps=renoise_steps, grid=grid)
        whole = (0, renoise_steps + 1)
        said = invert(curved, x0, t, SCHEDULE, num_steps=5, renoise_steps=renoise_steps, grid=grid, average=whole)
        assert torch.equal(plain, said)


def test_predictions_beyond_the_range_are_not_made() -> None:
    calls = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(t)
        return torch.zeros_like(x)

    invert(predict, normal(1, 1, 1, 1), torch.tensor([9]), SCHEDULE, num_steps=2, renoise_steps=9, average=(0, 5))
    assert len(calls) == 2 * 5


@pytest.mark.parametrize("average", [(0, 0), (2, 1), (-1, 1), (0, 3), (8, 10)])
def test_a_range_that_is_empty_or_never_reached_is_refused(average: tuple[int, int]) -> None:
    """The public defaults reach (8, 10) with R = 1 and silently take the last prediction."""
    with pytest.raises(ValueError, match=r"average must be lo, hi with 0 <= lo < hi <= renoise_steps \+ 1 = 2"):
        invert(curved, normal(1, 1, 1, 1), torch.tensor([9]), SCHEDULE, num_steps=1, renoise_steps=1, average=average)


@given(st.integers(20, 999), st.integers(3, 8), st.floats(-0.6, 0.6))
@settings(max_examples=30)
def test_with_a_linear_denoiser_inversion_then_sampling_is_the_identity(t: int, num_steps: int, slope: float) -> None:
    """The last prediction alone is a fixed-point iteration: where it converges, DDIM sampling undoes each step."""
    x0, t_B, predict = normal(2, 1, 3, 3), torch.tensor([t, 999]), linear(slope)
    xt = invert(predict, x0, t_B, SCHEDULE, num_steps=num_steps, renoise_steps=80, average=(80, 81))
    levels = exact_levels(t_B, num_steps)
    x = xt
    for i in reversed(range(num_steps)):
        below = SCHEDULE.levels(levels[i - 1]) if i else torch.ones(2, dtype=torch.float64)
        x = ddim_step(x, predict(x, levels[i]), SCHEDULE.levels(levels[i]), below)
    torch.testing.assert_close(x, x0, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(xt, x0)
