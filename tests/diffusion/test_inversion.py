import pytest
import torch
from diffusers import DDIMInverseScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.diffusion import (
    Grid,
    NoiseSchedule,
    Predict,
    PredictionType,
    add_noise,
    ddim_step,
    exact_levels,
    invert,
    level_counts,
    prediction_target,
    reference_levels,
    target_noise,
)

SCHEDULE = NoiseSchedule.scaled_linear()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The exact noise prediction when data is N(0, 0.25): linear in x."""
    ab = SCHEDULE.levels(t).reshape(-1, 1, 1, 1)
    return (x * (1 - ab).sqrt() / (0.25 * ab + 1 - ab)).to(x.dtype)


def sample_back(predict: Predict, xt: torch.Tensor, t: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Deterministic DDIM sampling down the exact grid to clean data."""
    levels = exact_levels(t, num_steps)
    x = xt
    for i in reversed(range(num_steps)):
        to = SCHEDULE.levels(levels[i - 1]) if i else torch.ones_like(t, dtype=torch.float64)
        x = ddim_step(x, predict(x, levels[i]), SCHEDULE.levels(levels[i]), to)
    return x


def test_step_by_hand() -> None:
    x, e = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 1.0)
    one, level = torch.ones(1, dtype=torch.float64), torch.tensor([0.64], dtype=torch.float64)
    lower = torch.tensor([0.36], dtype=torch.float64)
    assert ddim_step(x, e, one, level).item() == pytest.approx(0.8 * 2 + 0.6 * 1)
    assert ddim_step(x, e, level, lower).item() == pytest.approx(0.75 * 2 + (0.8 - 0.75 * 0.6) * 1)
    assert ddim_step(ddim_step(x, e, level, lower), e, lower, level).item() == pytest.approx(2.0)


def test_step_to_the_same_level_is_the_identity() -> None:
    x, e = normal(5, 1, 2, 2), normal(5, 1, 2, 2, seed=1)
    levels = SCHEDULE.levels(torch.tensor([0, 1, 300, 998, 999]))
    assert torch.equal(ddim_step(x, e, levels, levels), x)


@given(st.integers(0, 999), st.integers(1, 60))
def test_exact_levels_rise_to_exactly_t(t: int, num_steps: int) -> None:
    levels = exact_levels(torch.tensor([t, 999]), num_steps)
    assert levels.shape == (num_steps, 2)
    assert levels[-1].tolist() == [t, 999]
    assert (levels >= 0).all()
    assert (levels.diff(dim=0) >= 0).all()
    if t + 1 >= num_steps:
        assert (levels.diff(dim=0) >= 1).all()


def test_exact_levels_by_hand() -> None:
    assert exact_levels(torch.tensor([999, 2, 0]), 5).T.tolist() == [
        [199, 399, 599, 799, 999],
        [0, 1, 1, 2, 2],
        [0, 0, 0, 0, 0],
    ]


def test_reference_levels_are_published() -> None:
    assert reference_levels(5, 1000) == [1, 201, 401, 601, 801]
    assert reference_levels(10, 1000) == [1, 101, 201, 301, 401, 501, 601, 701, 801, 901]


@pytest.mark.parametrize("grid", ["exact", "reference"])
@pytest.mark.parametrize("t", [0, 1, 2, 201, 202, 999])
def test_level_counts_are_the_calls_that_an_inversion_costs(t: int, grid: Grid) -> None:
    calls = []

    def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(level)
        return torch.zeros_like(x)

    invert(predict, torch.zeros(1, 1, 2, 2), torch.tensor([t]), SCHEDULE, num_steps=5, renoise_steps=0, grid=grid)
    assert level_counts(torch.tensor([t]), 5, 1000, grid).tolist() == [len(calls)]


def test_level_counts_by_hand() -> None:
    t = torch.tensor([0, 1, 2, 201, 202, 999])
    assert level_counts(t, 5, 1000, "reference").tolist() == [0, 0, 1, 1, 2, 5]
    assert level_counts(t, 5, 1000, "exact").tolist() == [5] * 6


@pytest.mark.parametrize(("num_steps", "mean"), [(5, 2.99), (10, 5.48)])
def test_reference_grid_mean_number_of_steps(num_steps: int, mean: float) -> None:
    below = [sum(level < t for level in reference_levels(num_steps, 1000)) for t in range(1000)]
    assert sum(below) / 1000 == pytest.approx(mean)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("renoise_steps", [0, 1, 3])
@given(st.integers(0, 999), st.integers(1, 8))
@settings(max_examples=25)
def test_fixed_noise_lands_on_add_noise(kind: PredictionType, renoise_steps: int, t: int, num_steps: int) -> None:
    x0, noise, t_B = normal(2, 2, 2, 2), normal(2, 2, 2, 2, seed=1), torch.tensor([t, 999 - t])

    def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        if kind == "epsilon":
            return noise
        ab = SCHEDULE.levels(level).reshape(-1, 1, 1, 1)
        return (noise - (1 - ab).sqrt() * x) / ab.sqrt()

    xt = invert(predict, x0, t_B, SCHEDULE, num_steps=num_steps, renoise_steps=renoise_steps, prediction_type=kind)
    torch.testing.assert_close(xt, add_noise(x0, noise, t_B, SCHEDULE))
    torch.testing.assert_close(target_noise(x0, xt, t_B, SCHEDULE), noise)


@pytest.mark.parametrize("grid", ["exact", "reference"])
@given(st.lists(st.integers(0, 999), min_size=2, max_size=5))
@settings(max_examples=25)
def test_batch_equals_one_at_a_time(grid: Grid, levels: list[int]) -> None:
    t, x0 = torch.tensor(levels), normal(len(levels), 2, 2, 2)
    batch = invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=5, grid=grid)
    single = [
        invert(gaussian_denoiser, x0[i : i + 1], t[i : i + 1], SCHEDULE, num_steps=5, grid=grid)
        for i in range(len(levels))
    ]
    torch.testing.assert_close(batch, torch.cat(single), rtol=1e-12, atol=1e-12)


def round_trip_error(num_steps: int, renoise_steps: int) -> float:
    x0, t = normal(3, 1, 4, 4), torch.tensor([50, 500, 999])
    xt = invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=num_steps, renoise_steps=renoise_steps)
    back = sample_back(gaussian_denoiser, xt, t, num_steps)
    return float((back - x0).norm() / x0.norm())


def test_linear_denoiser_round_trip_returns_the_start() -> None:
    """First order in the step, and the mean over 1 + R predictions leaves 1 / (1 + R) of plain inversion's error."""
    plain = round_trip_error(200, 0)
    assert plain < 0.006
    assert round_trip_error(50, 0) == pytest.approx(4 * plain, rel=0.1)
    for renoise_steps in (1, 3, 9):
        assert round_trip_error(200, renoise_steps) == pytest.approx(plain / (1 + renoise_steps), rel=0.05)


def test_fine_grid_follows_the_probability_flow() -> None:
    x0, t = normal(2, 1, 4, 4), torch.tensor([400, 999])
    xt = invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=400)
    ab = SCHEDULE.levels(t).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(xt, x0 / 0.5 * (0.25 * ab + 1 - ab).sqrt(), rtol=0.01, atol=0)


def test_without_renoising_it_is_plain_ddim_inversion() -> None:
    x0, t = normal(2, 1, 2, 2), torch.tensor([700, 33])
    x, ab_from = x0, torch.ones(2, dtype=torch.float64)
    for level in exact_levels(t, 4):
        ab_to = SCHEDULE.levels(level)
        x = ddim_step(x, gaussian_denoiser(x, level), ab_from, ab_to)
        ab_from = ab_to
    torch.testing.assert_close(invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=4, renoise_steps=0), x)


def test_smpo_averages_two_predictions_and_steps_from_the_previous_latent() -> None:
    x0, t, calls = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64), torch.tensor([0]), []

    def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append((x.item(), level.item()))
        return x * 3

    ab = 0.64
    schedule = NoiseSchedule(torch.tensor([ab], dtype=torch.float64))
    xt = invert(predict, x0, t, schedule, num_steps=1, renoise_steps=1)
    first = 0.8 * 1 + 0.6 * 3
    assert calls == [(1.0, 0), (pytest.approx(first), 0)]
    assert xt.item() == pytest.approx(0.8 * 1 + 0.6 * (3 + 3 * first) / 2)


def test_every_query_of_the_exact_grid_is_a_level_of_its_own_sample() -> None:
    t, queries = torch.tensor([0, 7, 500, 999]), []

    def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        queries.append(level.clone())
        return torch.zeros_like(x)

    invert(predict, normal(4, 1, 1, 1), t, SCHEDULE, num_steps=5, renoise_steps=1)
    assert torch.equal(torch.stack(queries), exact_levels(t, 5).repeat_interleave(2, dim=0))


@pytest.mark.parametrize("grid", ["exact", "reference"])
def test_every_level_works(grid: Grid) -> None:
    t = torch.arange(1000)
    x0 = normal(1000, 1, 1, 1)
    xt = invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=5, grid=grid)
    assert xt.isfinite().all()
    unmoved = (xt == x0).flatten()
    assert unmoved.nonzero().flatten().tolist() == ([0, 1] if grid == "reference" else [])


@pytest.mark.parametrize("num_steps", [5, 10])
@pytest.mark.parametrize("t", [2, 150, 202, 640, 999])
def test_reference_grid_agrees_with_the_public_scheduler(num_steps: int, t: int) -> None:
    """SmPO's public loop: the library's inverse scheduler with the Stable Diffusion scheduler settings."""
    scheduler = DDIMInverseScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(num_steps)
    x0 = normal(1, 2, 2, 2)
    x = x0
    for level in scheduler.timesteps[scheduler.timesteps < t]:
        first = gaussian_denoiser(x, level.reshape(1))
        second = gaussian_denoiser(scheduler.step(first, level, x).prev_sample, level.reshape(1))
        x = scheduler.step((first + second) / 2, level, x).prev_sample
    xt = invert(gaussian_denoiser, x0, torch.tensor([t]), SCHEDULE, num_steps=num_steps, grid="reference")
    torch.testing.assert_close(xt, x, rtol=1e-5, atol=1e-6)


def test_half_precision_in_half_precision_out_and_no_gradient() -> None:
    x0 = normal(2, 1, 2, 2).to(torch.bfloat16).requires_grad_()
    xt = invert(gaussian_denoiser, x0, torch.tensor([3, 900]), SCHEDULE, num_steps=5)
    assert xt.dtype == torch.bfloat16
    assert not xt.requires_grad


def test_bad_arguments_are_refused() -> None:
    x0, t = normal(1, 1, 1, 1), torch.tensor([10])
    with pytest.raises(ValueError, match="num_steps"):
        invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=0)
    with pytest.raises(ValueError, match="renoise_steps"):
        invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=5, renoise_steps=-1)
    with pytest.raises(ValueError, match="grid"):
        invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=5, grid="floor")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t must lie"):
        invert(gaussian_denoiser, x0, torch.tensor([1000]), SCHEDULE, num_steps=5)


def test_perfect_velocity_model_agrees_with_perfect_noise_model() -> None:
    x0, t = normal(2, 1, 2, 2), torch.tensor([300, 950])

    def velocity(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        ab = SCHEDULE.levels(level).reshape(-1, 1, 1, 1)
        noise = gaussian_denoiser(x, level)
        clean = (x - (1 - ab).sqrt() * noise) / ab.sqrt()
        return prediction_target(clean, noise, level, SCHEDULE, "v_prediction")

    torch.testing.assert_close(
        invert(velocity, x0, t, SCHEDULE, num_steps=5, prediction_type="v_prediction"),
        invert(gaussian_denoiser, x0, t, SCHEDULE, num_steps=5),
    )


def test_reference_grid_asks_for_no_prediction_that_it_does_not_use() -> None:
    calls = []

    def predict(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(level.tolist())
        return torch.zeros_like(x)

    invert(predict, normal(2, 1, 1, 1), torch.tensor([1, 201]), SCHEDULE, num_steps=5, grid="reference")
    assert calls == [[1, 1], [1, 1]]
