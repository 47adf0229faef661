"""The pieces of benchmarks/trajectories.py, on the embedded world's model."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from benchmarks.trajectory_lab import CLEAN, RANDOM, Lab, Pairs, Size, StandIn, climb, hold, look, mean_of, sample
from benchmarks.trajectory_lab import variances as variances_of
from prefopt.diffusion import NoiseSchedule, denoising_error, error_gap, invert, target_noise
from prefopt.models.families import predict
from prefopt.world.rewards import WORLD_REWARDS

SIZE = Size(pairs=3, trained=4, training_steps=2, levels=(499,), sampling_steps=10)
SCHEDULE = NoiseSchedule.scaled_linear()
LEVEL = 499


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab(SIZE)


@pytest.fixture(scope="module")
def pairs(lab: Lab) -> Pairs:
    return lab.draw(lab.prompts[: SIZE.pairs])


@pytest.fixture(scope="module")
def policy(lab: Lab) -> torch.nn.Module:
    return lab.train(lab.draw(lab.prompts[SIZE.pairs : SIZE.pairs + SIZE.trained]), RANDOM)


def levels(count: int, level: int = LEVEL) -> Tensor:
    return torch.full((count,), level)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def same_noise_everywhere(x: Tensor, t: Tensor) -> Tensor:
    return torch.linspace(-1.0, 1.0, x[0].numel(), dtype=x.dtype).reshape(x[:1].shape).expand_as(x)


def gaussian_denoiser(x: Tensor, t: Tensor) -> Tensor:
    """The exact noise prediction when data is N(0, 4)."""
    ab = SCHEDULE.levels(t).reshape(-1, 1, 1, 1)
    return x * (1 - ab).sqrt() / (4.0 * ab + 1 - ab)


@pytest.mark.parametrize("num_steps", [1, 5, 25])
def test_where_the_noise_does_not_depend_on_x_any_inversion_gives_the_true_x_t(num_steps: int) -> None:
    path = sample(same_noise_everywhere, normal(2, 1, 4, 4), SCHEDULE, 10)
    for level in (99, 499, 999):
        found = invert(same_noise_everywhere, path[CLEAN], levels(2, level), SCHEDULE, num_steps=num_steps)
        torch.testing.assert_close(found, path[level], rtol=1e-9, atol=1e-9)


def test_the_fixed_point_on_the_samplers_levels_gives_the_true_x_t_of_a_contracting_model() -> None:
    path = sample(gaussian_denoiser, normal(2, 1, 4, 4), SCHEDULE, 10)
    found = invert(
        gaussian_denoiser,
        path[CLEAN],
        levels(2),
        SCHEDULE,
        num_steps=5,
        renoise_steps=60,
        average=(60, 61),
    )
    torch.testing.assert_close(found, path[LEVEL], rtol=1e-6, atol=1e-6)
    one_step = invert(gaussian_denoiser, path[CLEAN], levels(2), SCHEDULE, num_steps=1, renoise_steps=0)
    assert (one_step - path[LEVEL]).norm() > 0.1 * path[LEVEL].norm()


def test_images_are_drawn_as_ddim_of_diffusers_draws_them(lab: Lab, pairs: Pairs) -> None:
    own = {**lab.pipeline.scheduler.config, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    scheduler = DDIMScheduler.from_config(own)
    scheduler.set_timesteps(SIZE.sampling_steps)
    x = pairs.path[999]
    for t in scheduler.timesteps.tolist():
        torch.testing.assert_close(x, pairs.path[t], rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            predicted = predict(lab.reference, x, levels(len(x), t), pairs.told)
        x = scheduler.step(predicted, t, x).prev_sample
    torch.testing.assert_close(x, pairs.path[CLEAN], rtol=1e-3, atol=1e-3)


def test_the_better_image_comes_first(lab: Lab, pairs: Pairs) -> None:
    scores = WORLD_REWARDS["world/true"]().score(lab.images(pairs.x0), [*pairs.prompts, *pairs.prompts])
    assert (scores[: SIZE.pairs] >= scores[SIZE.pairs :]).all()


def test_from_the_true_first_level_inversion_follows_the_true_trajectory(lab: Lab, pairs: Pairs) -> None:
    def away(x: Tensor) -> float:
        return float((x - pairs.path[LEVEL]).norm() / pairs.path[LEVEL].norm())

    known = lab.stand_in(StandIn("", {}, told_first=True), pairs, levels(2 * SIZE.pairs), ())
    unknown = lab.stand_in(StandIn("", {"renoise_steps": 0}, own_grid=True), pairs, levels(2 * SIZE.pairs), ())
    assert away(known) < 0.5 * away(unknown)
    lowest = min(level for level in pairs.path if level != CLEAN)
    assert torch.equal(climb(same_noise_everywhere, pairs.path, lowest, lab.schedule), pairs.path[lowest])


def test_the_true_x_t_held_against_itself_is_perfect(lab: Lab, pairs: Pairs, policy: torch.nn.Module) -> None:
    truth = look(lab, policy, pairs, pairs.path[LEVEL], LEVEL)
    held = hold(truth, truth)
    assert np.ptp(truth.logit) > 0
    for name, wanted in {
        "distance": 0,
        "logit_error": 0,
        "loss_error": 0,
        "noise_cosine": 1,
        "gradient_cosine": 1,
    }.items():
        np.testing.assert_allclose(held.pairs[name], wanted, atol=1e-3)  # sums of a million float32
    np.testing.assert_allclose(held.cross, held.true)


def test_the_mean_gradient_over_draws_is_what_autograd_gives(lab: Lab, pairs: Pairs, policy: torch.nn.Module) -> None:
    t, pair = levels(2 * SIZE.pairs), [1, 1 + SIZE.pairs]
    drawn = [lab.stand_in(RANDOM, pairs, t, (LEVEL, draw)) for draw in range(3)]
    looks = [look(lab, policy, pairs, xt, LEVEL) for xt in drawn]

    weights = list(policy.requires_grad_(True).parameters())
    told, losses = pairs.told.select(pair), []
    for xt in drawn:
        target = target_noise(pairs.x0[pair], xt[pair], t[pair], lab.schedule)
        errors = [denoising_error(predict(unet, xt[pair], t[pair], told), target) for unet in (lab.reference, policy)]
        gap = error_gap(*errors[0].split(1), *errors[1].split(1))
        losses.append(torch.nn.functional.softplus(-1000.0 * gap))
    wanted = torch.autograd.grad(torch.stack(losses).mean(), weights)
    wanted = torch.cat([slope.flatten() for slope in wanted])
    torch.testing.assert_close(mean_of(looks).gradients[1], wanted, rtol=1e-3, atol=1e-4 * float(wanted.norm()))

    slopes = torch.stack([one.gradients[1] for one in looks]).double()
    one, of_mean = variances_of(looks)
    assert one[1] == pytest.approx(float(slopes.var(dim=0).sum()), rel=1e-4)
    assert of_mean[1] == pytest.approx(one[1] / 3)


def test_both_images_of_a_pair_share_the_random_noise_and_draws_differ(lab: Lab, pairs: Pairs) -> None:
    t = levels(2 * SIZE.pairs)
    first, second = (
        target_noise(pairs.x0, lab.stand_in(RANDOM, pairs, t, (LEVEL, draw)), t, lab.schedule) for draw in range(2)
    )
    torch.testing.assert_close(first[: SIZE.pairs], first[SIZE.pairs :], rtol=1e-3, atol=1e-4)
    assert (first - second).abs().mean() > 0.5
    again = target_noise(pairs.x0, lab.stand_in(RANDOM, pairs, t, (LEVEL, 0)), t, lab.schedule)
    assert torch.equal(first, again)
