import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.diffusion import NoiseRegularisation, NoiseSchedule, add_noise, ddim_step, invert, regularise_noise
from prefopt.diffusion.regularise import pair_correlation, patch_divergence, pyramid_sizes

SCHEDULE = NoiseSchedule.scaled_linear()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regularised(noise: torch.Tensor, target: torch.Tensor, **settings: Any) -> torch.Tensor:
    how = NoiseRegularisation(noise, **settings)
    return regularise_noise(noise, target, how, torch.Generator().manual_seed(how.seed))


def smooth(x: torch.Tensor) -> torch.Tensor:
    """Neighbours correlated: not what noise looks like."""
    return (x + x.roll(1, 2) + x.roll(1, 3) + x.roll((1, 1), (2, 3))) / 2


def test_patch_divergence_by_hand() -> None:
    """One patch with values +-1 (unbiased variance 16/15) against the same times 2 plus 3."""
    patch = torch.tensor([1.0, -1.0] * 8, dtype=torch.float64).reshape(1, 1, 4, 4)
    v0, v1 = 16 / 15 + 1e-6, 4 * 16 / 15 + 1e-6
    expected = math.log(v1 / v0) + (16 / 15 + 9) / v1 - 1
    assert patch_divergence(patch, 2 * patch + 3).item() == pytest.approx(expected)
    two = torch.cat([patch, patch], dim=1).repeat(1, 1, 2, 1)
    assert patch_divergence(two, 2 * two + 3).item() == pytest.approx(4 * expected)


@given(st.integers(0, 99))
def test_divergence_is_zero_for_equal_patches_whatever_their_order_inside(seed: int) -> None:
    x = normal(2, 4, 8, 8, seed=seed)
    assert patch_divergence(x, x).abs().max().item() < 1e-3
    shuffled = x.reshape(2, 4, 2, 4, 2, 4).flip(3).flip(5).reshape_as(x)
    assert patch_divergence(x, shuffled).abs().max().item() < 1e-3
    assert (patch_divergence(x, 1.5 * x) > 1).all()


def test_pair_correlation_by_hand() -> None:
    """Rows 1, 2 of one channel rolled by one: along H the mean product is 2, along W 2.5."""
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]], dtype=torch.float64).reshape(1, 1, 2, 2)
    assert pair_correlation(x, [1]).item() == pytest.approx(2.0**2 + 2.5**2)
    assert pyramid_sizes(64) == [64, 32, 16, 8]
    assert pyramid_sizes(8) == [8]
    pooled = x.repeat(1, 1, 8, 8)
    assert pair_correlation(pooled, [1, 1]).item() == pytest.approx(2.0**2 + 2.5**2 + 2 * 1.5**4)


def test_regularised_noise_is_more_like_noise() -> None:
    bad, target = smooth(normal(3, 4, 32, 32)), normal(3, 4, 32, 32, seed=1)
    better = regularised(bad, target)
    for shift in (1, 2, 3):
        assert (pair_correlation(better, [shift, 1, 1]) < pair_correlation(bad, [shift, 1, 1])).all()
    only_patches = regularised(bad, target, pair_weight=0.0)
    assert (patch_divergence(only_patches, target) < patch_divergence(bad, target)).all()


def test_each_part_by_its_gradient() -> None:
    """One round: a step down the divergence, clipped at 100, and then `rolls` steps down the correlation."""
    noise, target = smooth(normal(1, 2, 8, 8)), normal(1, 2, 8, 8, seed=1)
    target[:, :, :4, :4] *= 0.01  # a patch so quiet that its slope is beyond 100
    leaf = noise.clone().requires_grad_()
    (slope,) = torch.autograd.grad(patch_divergence(leaf, target).sum(), leaf)
    assert slope.abs().max() > 100
    expected = noise - 0.065 * slope.clamp(-100, 100)
    torch.testing.assert_close(regularised(noise, target, rounds=1, rolls=0), expected)

    generator = torch.Generator().manual_seed(7)
    for _ in range(5):
        shift = int(torch.randint(1, 4, (), generator=generator))
        leaf = expected.clone().requires_grad_()
        (slope,) = torch.autograd.grad(pair_correlation(leaf, [shift]).sum(), leaf)
        expected = expected - 20 / 5 * slope
    torch.testing.assert_close(regularised(noise, target, rounds=1, seed=7), expected)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_batch_equals_one_at_a_time(size: int) -> None:
    noise, target = smooth(normal(3, 4, size, size)), normal(3, 4, size, size, seed=1)
    alone = [regularised(noise[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(regularised(noise, target), torch.cat(alone), rtol=1e-10, atol=1e-12)


def test_no_rounds_change_nothing_and_a_seed_decides_the_shifts() -> None:
    noise, target = normal(1, 4, 16, 16), normal(1, 4, 16, 16, seed=1)
    assert torch.equal(regularised(noise, target, rounds=0), noise)
    assert torch.equal(regularised(noise, target, seed=1), regularised(noise, target, seed=1))
    assert not torch.equal(regularised(noise, target, seed=1), regularised(noise, target, seed=2))


def test_wrong_settings_are_named() -> None:
    x = normal(1, 1, 6, 8)
    with pytest.raises(ValueError, match="whole 4x4 patches"):
        regularised(x, x)
    with pytest.raises(ValueError, match="differ in shape"):
        regularised(x, normal(1, 1, 8, 8))
    for name in ("rounds", "patch_weight", "pair_weight", "rolls"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0"):
            NoiseRegularisation(x, **{name: -1})
    with pytest.raises(ValueError, match=r"regularisation\.noise must have x0's shape"):
        invert(predict, normal(2, 1, 8, 8), torch.tensor([5, 6]), SCHEDULE, num_steps=2, regularisation=settings(x))


def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A nonlinear denoiser whose prediction is correlated."""
    return smooth(torch.tanh(x + t.reshape(-1, 1, 1, 1) / 1000))


def settings(noise: torch.Tensor, **other: Any) -> NoiseRegularisation:
    return NoiseRegularisation(noise, **other)


def test_inversion_regularises_the_mean_and_what_leads_to_it() -> None:
    """One level, R = 1: e_0 is regularised before the step to the second query, then the mean of both."""
    x0, noise, t = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1), torch.tensor([500, 900])
    how = settings(noise, seed=3)
    generator = torch.Generator().manual_seed(3)
    target = predict(add_noise(x0, noise, t, SCHEDULE), t)
    one, ab = torch.ones(2, dtype=torch.float64), SCHEDULE.levels(t)
    first = predict(x0, t)
    second = predict(ddim_step(x0, regularise_noise(first, target, how, generator), one, ab), t)
    mean = regularise_noise((first + second) / 2, target, how, generator)
    expected = ddim_step(x0, mean, one, ab)
    torch.testing.assert_close(invert(predict, x0, t, SCHEDULE, num_steps=1, regularisation=how), expected)


@pytest.mark.parametrize("grid", ["exact", "reference"])
def test_regularised_inversion_in_a_batch_equals_one_at_a_time(grid: Any) -> None:
    x0, noise, t = normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1), torch.tensor([3, 450, 999])
    batch = invert(predict, x0, t, SCHEDULE, num_steps=4, grid=grid, regularisation=settings(noise))
    alone = [
        invert(
            predict,
            x0[i : i + 1],
            t[i : i + 1],
            SCHEDULE,
            num_steps=4,
            grid=grid,
            regularisation=settings(noise[i : i + 1]),
        )
        for i in range(3)
    ]
    torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-9, atol=1e-10)
    plain = invert(predict, x0, t, SCHEDULE, num_steps=4, grid=grid)
    assert not torch.allclose(batch, plain)
    idle = settings(noise, rounds=0)
    assert torch.equal(invert(predict, x0, t, SCHEDULE, num_steps=4, grid=grid, regularisation=idle), plain)


def test_regularised_inversion_of_half_precision_stays_so() -> None:
    x0 = normal(1, 4, 8, 8).to(torch.bfloat16)
    xt = invert(predict, x0, torch.tensor([700]), SCHEDULE, num_steps=2, regularisation=settings(normal(1, 4, 8, 8)))
    assert xt.dtype == torch.bfloat16
    assert xt.isfinite().all()
