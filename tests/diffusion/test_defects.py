"""Defects of the public inversions: absent with `grid: exact`, kept with `grid: reference`.

Elsewhere: the level grid and the agreement of `reference` with the public scheduler (test_inversion), an average
that is never reached (test_average), regularisation for one sample only (test_regularise).
"""

import math

import pytest
import torch

from prefopt.diffusion import Grid, NoiseSchedule, ddim_step, exact_levels, invert, reference_levels, target_noise

SCHEDULE = NoiseSchedule.scaled_linear()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def level_of(xt: torch.Tensor, noise: torch.Tensor) -> int:
    """The level at which x_t holds as much of a fixed noise, given x_0 = 0."""
    share = float((xt / noise).mean())
    return int((SCHEDULE.alphas_cumprod - (1 - share**2)).abs().argmin())


@pytest.mark.parametrize("t", [0, 1, 5, 200, 202, 444, 901, 902, 950, 999])
def test_the_inverted_latents_noise_level_is_the_timestep_of_the_loss(t: int) -> None:
    """Defect: the latent sits at the last grid level below t, while target and query use t."""
    noise = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    x0 = torch.zeros_like(noise)
    for num_steps in (1, 5, 10):
        xt = invert(lambda x, level: noise, x0, torch.tensor([t]), SCHEDULE, num_steps=num_steps)
        assert level_of(xt, noise) == t
        torch.testing.assert_close(target_noise(x0, xt, torch.tensor([t]), SCHEDULE), noise)


def test_the_reference_grid_lags_by_half_a_cell() -> None:
    for num_steps, lag in ((5, 100), (10, 50)):
        below = [
            max((level for level in reference_levels(num_steps, 1000) if level < t), default=0) for t in range(1000)
        ]
        assert sum(t - level for t, level in enumerate(below)) / 1000 == pytest.approx(lag, abs=2)
        t = torch.arange(1000)
        assert torch.equal(exact_levels(t, num_steps)[-1], t)


def test_the_lowest_timesteps_are_inverted_too() -> None:
    """Defect: for t in {0, 1} x_t = x_0, so that tau is a multiple of x_0."""
    x0, noise, t = normal(2, 1, 2, 2), normal(2, 1, 2, 2, seed=1), torch.tensor([0, 1])
    ab = SCHEDULE.levels(t).reshape(-1, 1, 1, 1)
    lazy = invert(lambda x, level: noise, x0, t, SCHEDULE, num_steps=5, grid="reference")
    assert torch.equal(lazy, x0)
    torch.testing.assert_close(target_noise(x0, lazy, t, SCHEDULE), x0 * (1 - ab.sqrt()) / (1 - ab).sqrt())
    xt = invert(lambda x, level: noise, x0, t, SCHEDULE, num_steps=5)
    torch.testing.assert_close(target_noise(x0, xt, t, SCHEDULE), noise)


@pytest.mark.parametrize("grid", ["exact", "reference"])
def test_timesteps_above_the_last_grid_level_work(grid: Grid) -> None:
    """Defect: for t >= 902 on the 10-level grid a variance is looked up at level 1001 of 1000."""
    t = torch.arange(895, 1000)
    x0 = normal(len(t), 1, 1, 1)
    xt = invert(lambda x, level: torch.tanh(x), x0, t, SCHEDULE, num_steps=10, renoise_steps=0, grid=grid)
    assert xt.isfinite().all()


def test_every_pair_has_its_own_timestep() -> None:
    """Defect: the first row's timestep drives the inversion of the whole batch."""
    x0 = normal(1, 1, 2, 2).repeat(3, 1, 1, 1)
    xt = invert(lambda x, level: torch.tanh(x), x0, torch.tensor([100, 500, 900]), SCHEDULE, num_steps=5)
    assert not torch.allclose(xt[0], xt[1])
    assert not torch.allclose(xt[1], xt[2])
    first = invert(lambda x, level: torch.tanh(x), x0[:1], torch.tensor([900]), SCHEDULE, num_steps=5)
    torch.testing.assert_close(xt[2:], first)


@pytest.mark.parametrize(("t", "off"), [(0, 0.15), (2, 0.05)])
def test_coefficients_do_not_suffer_from_half_precision(t: int, off: float) -> None:
    """Defect: ab in fp16 puts 1 - ab off by 15 % at t = 0 and 5 % at t = 2."""
    exact = 1 - SCHEDULE.alphas_cumprod[t]
    half = 1 - SCHEDULE.alphas_cumprod[t].half().double()
    assert abs(float(half / exact) - 1) == pytest.approx(off, abs=0.01)
    zero, level = torch.zeros(1, 1, 1, 1, dtype=torch.float16), torch.tensor([t])
    ones = torch.ones_like(zero)
    tau = target_noise(zero, ones, level, SCHEDULE)
    assert tau.item() == pytest.approx(1 / math.sqrt(exact), rel=1e-3)


def test_the_start_is_clean_data_and_not_level_zero() -> None:
    """The library's scheduler starts at ab_0, which shifts x_0 by about -sqrt(1 - ab_0) e = -0.029 e."""
    x0, noise = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    back = SCHEDULE.levels(torch.tensor([0]))
    one = torch.ones(1, dtype=torch.float64)
    for level in (200, 800):
        to = SCHEDULE.levels(torch.tensor([level]))
        clean, shifted = ddim_step(x0, noise, one, to), ddim_step(x0, noise, back, to)
        difference = float((shifted - clean) / to.sqrt())
        assert difference == pytest.approx(-math.sqrt(0.00085), rel=1e-3)
    t = torch.tensor([201])
    exact = invert(lambda x, level: noise, x0, t, SCHEDULE, num_steps=1)
    torch.testing.assert_close(target_noise(x0, exact, t, SCHEDULE), noise)
