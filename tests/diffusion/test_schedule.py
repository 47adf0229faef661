import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.diffusion import NoiseSchedule, PredictionType, add_noise, prediction_target, target_noise, to_epsilon

SCHEDULE = NoiseSchedule.scaled_linear()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_published_levels_of_sd() -> None:
    levels = SCHEDULE.levels(torch.tensor([1, 201, 401, 601, 801, 901]))
    expected = torch.tensor([0.998, 0.752, 0.423, 0.160, 0.0365, 0.0140], dtype=torch.float64)
    assert SCHEDULE.num_steps == 1000
    assert levels.dtype == torch.float64
    torch.testing.assert_close(levels, expected, atol=5e-4, rtol=0)
    assert SCHEDULE.alphas_cumprod[0].item() == pytest.approx(1 - 0.00085, abs=1e-15)


def test_from_betas_multiplies_one_minus_beta() -> None:
    schedule = NoiseSchedule.from_betas(torch.tensor([0.1, 0.5], dtype=torch.float64))
    assert schedule.alphas_cumprod.tolist() == pytest.approx([0.9, 0.45])


@pytest.mark.parametrize("bad", [[0.5, 0.6], [0.5, 0.5], [1.0, 0.5], [0.5, 0.0], [math.nan, 0.5]])
def test_schedule_must_fall_inside_the_unit_interval(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod"):
        NoiseSchedule(torch.tensor(bad, dtype=torch.float64))


def test_schedule_must_be_float64() -> None:
    with pytest.raises(ValueError, match="float64"):
        NoiseSchedule(torch.tensor([0.9, 0.5]))


@pytest.mark.parametrize("t", [torch.tensor([-1]), torch.tensor([1000]), torch.tensor([1.0]), torch.tensor(1)])
def test_bad_levels_are_refused(t: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="t must"):
        SCHEDULE.levels(t)


def test_add_noise_by_hand() -> None:
    schedule = NoiseSchedule(torch.tensor([0.64, 0.36], dtype=torch.float64))
    x0, noise = torch.full((2, 1, 1, 1), 10.0), torch.full((2, 1, 1, 1), 5.0)
    xt = add_noise(x0, noise, torch.tensor([0, 1]), schedule)
    assert xt.flatten().tolist() == pytest.approx([0.8 * 10 + 0.6 * 5, 0.6 * 10 + 0.8 * 5])


@given(st.lists(st.integers(0, 999), min_size=1, max_size=4), st.integers(0, 2**16))
def test_target_noise_undoes_add_noise(levels: list[int], seed: int) -> None:
    t = torch.tensor(levels)
    x0, noise = normal(len(levels), 4, 3, 2, seed=seed), normal(len(levels), 4, 3, 2, seed=seed + 1)
    torch.testing.assert_close(target_noise(x0, add_noise(x0, noise, t, SCHEDULE), t, SCHEDULE), noise)


def test_target_noise_of_an_unmoved_latent() -> None:
    x0, t = normal(2, 1, 2, 2), torch.tensor([0, 1])
    ab = SCHEDULE.levels(t).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(target_noise(x0, x0, t, SCHEDULE), x0 * (1 - ab.sqrt()) / (1 - ab).sqrt())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_samples_keep_exact_coefficients(dtype: torch.dtype) -> None:
    t, zeros, ones = torch.tensor([0]), torch.zeros(1, 1, 1, 1, dtype=dtype), torch.ones(1, 1, 1, 1, dtype=dtype)
    xt = add_noise(zeros, ones, t, SCHEDULE)
    assert xt.dtype == dtype
    assert xt.item() == pytest.approx(math.sqrt(0.00085), rel=torch.finfo(dtype).eps)
    tau = target_noise(ones, ones, t, SCHEDULE)
    exact = (1 - math.sqrt(1 - 0.00085)) / math.sqrt(0.00085)
    assert tau.item() == pytest.approx(exact, rel=torch.finfo(dtype).eps)


def test_velocity_by_hand() -> None:
    schedule = NoiseSchedule(torch.tensor([0.64], dtype=torch.float64))
    x0, noise, t = torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 5.0), torch.tensor([0])
    assert prediction_target(x0, noise, t, schedule, "v_prediction").item() == pytest.approx(0.8 * 5 - 0.6 * 10)
    assert prediction_target(x0, noise, t, schedule, "epsilon") is noise


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@given(st.integers(0, 999), st.integers(0, 2**16))
def test_perfect_prediction_gives_back_the_noise(kind: PredictionType, t: int, seed: int) -> None:
    level = torch.tensor([t])
    x0, noise = normal(1, 2, 2, 2, seed=seed), normal(1, 2, 2, 2, seed=seed + 1)
    prediction = prediction_target(x0, noise, level, SCHEDULE, kind)
    xt = add_noise(x0, noise, level, SCHEDULE)
    torch.testing.assert_close(to_epsilon(prediction, xt, level, SCHEDULE, kind), noise)


def test_unknown_prediction_type_is_refused() -> None:
    x, t = normal(1, 1, 1, 1), torch.tensor([0])
    with pytest.raises(ValueError, match="prediction_type"):
        prediction_target(x, x, t, SCHEDULE, "sample")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prediction_type"):
        to_epsilon(x, x, t, SCHEDULE, "sample")  # type: ignore[arg-type]
