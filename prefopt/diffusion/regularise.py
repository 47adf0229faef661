"""Noise regularisation of predictions during inversion (ReNoise, arXiv 2403.14602, public code), batched.

A few rounds of gradient steps pull a predicted noise towards what noise looks like: first its 4x4 patches towards the
prediction on honestly noised data, then its correlation with shifted copies of itself towards zero. Samples do not
touch each other. Shape key: B batch, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from prefopt.diffusion.schedule import wide_dtype

PATCH = 4
_SMALLEST = 8
_EPSILON = 1e-6
_LARGEST_SLOPE = 100.0


@dataclass(frozen=True, eq=False)
class NoiseRegularisation:
    """How `prefopt.diffusion.invert` regularises; the defaults are the public code's.

    Raises ValueError for negative settings.
    """

    noise: Tensor
    """[B, C, H, W]: each sample's own standard normal noise, by which its clean latent is noised for comparison."""
    seed: int = 0
    """Of the shifts, which are the same for all samples, whatever the batch."""
    rounds: int = 4
    patch_weight: float = 0.065
    """Step size of the patch divergence."""
    pair_weight: float = 20.0
    """Step size of the pairwise correlation. The public value is for latents of 32x32 and more: its steps grow with
    1 / (H W) and overshoot on tiny ones."""
    rolls: int = 5
    """Correlation steps in a round, each with shifts of its own."""

    def __post_init__(self) -> None:
        for name in ("rounds", "patch_weight", "pair_weight", "rolls"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


def regularise_noise(
    noise_BCHW: Tensor, target_BCHW: Tensor, how: NoiseRegularisation, generator: torch.Generator
) -> Tensor:
    """The noise after `how.rounds` rounds, float32 or wider, detached. `target` is the prediction to resemble.

    The generator (on the CPU) draws the shifts. Raises ValueError if the shapes differ or are no whole patches.
    """
    if noise_BCHW.shape != target_BCHW.shape:
        raise ValueError(f"noise and target differ in shape: {list(noise_BCHW.shape)}, {list(target_BCHW.shape)}")
    noise = noise_BCHW.detach().to(wide_dtype(noise_BCHW.dtype))
    target = target_BCHW.detach().to(noise.dtype)
    sizes = pyramid_sizes(noise.shape[2])
    for _ in range(how.rounds):
        slope = _slope(partial(patch_divergence, target_BCHW=target), noise).clamp(-_LARGEST_SLOPE, _LARGEST_SLOPE)
        noise = noise - how.patch_weight * slope
        for _ in range(how.rolls):
            shifts = [int(torch.randint(1, max(2, size // 2), (), generator=generator)) for size in sizes]
            slope = _slope(partial(pair_correlation, shifts=shifts), noise)
            noise = noise - how.pair_weight / how.rolls * slope
    return noise


def patch_divergence(noise_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Twice the Gaussian KL divergence of 4x4 patches, summed over patches and channels, [B].

    Each patch stands for the normal distribution of its mean and (unbiased) variance; the absolute value of each
    term is taken, since 1e-6 is added to the variances. Raises ValueError unless H and W are multiples of 4.
    """
    mean, variance = _patch_moments(noise_BCHW)
    target_mean, target_variance = _patch_moments(target_BCHW)
    wide = target_variance + _EPSILON
    term = (wide / (variance + _EPSILON)).log() + (variance + (mean - target_mean).square()) / wide - 1.0
    return term.abs().flatten(1).sum(dim=1)


def pair_correlation(noise_BCHW: Tensor, shifts: list[int]) -> Tensor:
    """Squared mean product of the noise with itself rolled along H and along W, over channels and a pyramid, [B].

    Level i of the pyramid halves the noise i times and is rolled by shifts[i]; see `pyramid_sizes`.
    """
    total = noise_BCHW.new_zeros(noise_BCHW.shape[0])
    level = noise_BCHW
    for i, shift in enumerate(shifts):
        level = avg_pool2d(level, 2) if i else level
        for axis in (2, 3):
            total = total + (level * level.roll(shift, axis)).mean(dim=(2, 3)).square().sum(dim=1)
    return total


def pyramid_sizes(height: int) -> list[int]:
    """Heights of the pyramid: halved until 8 or less."""
    sizes = [height]
    while sizes[-1] > _SMALLEST:
        sizes.append(sizes[-1] // 2)
    return sizes


def _patch_moments(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = x_BCHW.shape
    if height % PATCH or width % PATCH:
        raise ValueError(f"noise regularisation needs latents in whole {PATCH}x{PATCH} patches: {list(x_BCHW.shape)}")
    patches = x_BCHW.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    variance, mean = torch.var_mean(patches, dim=(3, 5))
    return mean, variance


def _slope(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    return slope
