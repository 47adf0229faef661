"""The noise schedule and the changes between clean sample, noise and noisy sample.

Shape key: T levels of the schedule, B batch, C channels, H height, W width. Levels t are int64 [B] in 0..T-1.
Coefficients are computed in float64; half-precision samples are mixed in float32 and rounded once at the end.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much signal is left at each level: x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) noise."""

    alphas_cumprod: Tensor
    """ab, float64 [T], falling, inside (0, 1)."""

    def __post_init__(self) -> None:
        levels = self.alphas_cumprod
        if levels.dim() != 1 or levels.numel() == 0 or levels.dtype != torch.float64:
            raise ValueError("alphas_cumprod must be a float64 tensor of shape [T] with T >= 1")
        if not bool(((levels > 0) & (levels < 1)).all()) or bool((levels.diff() >= 0).any()):
            raise ValueError("alphas_cumprod must fall strictly and lie inside (0, 1)")

    @classmethod
    def from_betas(cls, betas: Tensor) -> "NoiseSchedule":
        """Schedule of the noise variances beta [T]: ab_t is the product of 1 - beta up to and including t."""
        return cls(torch.cumprod(1.0 - betas.to(torch.float64), dim=0))

    @classmethod
    def scaled_linear(
        cls, num_steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
    ) -> "NoiseSchedule":
        """Betas whose square roots are evenly spaced; the defaults are those of SD1.5 and SDXL."""
        return cls.from_betas(torch.linspace(beta_start**0.5, beta_end**0.5, num_steps, dtype=torch.float64) ** 2)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.alphas_cumprod.numel()

    def to(self, device: torch.device | str) -> "NoiseSchedule":
        """The same schedule on another device."""
        return NoiseSchedule(self.alphas_cumprod.to(device))

    def check(self, t_B: Tensor) -> None:
        """Raise ValueError unless t is int64 [B] and every entry lies in 0..T-1."""
        if t_B.dtype != torch.int64 or t_B.dim() != 1:
            raise ValueError(f"t must be int64 of shape [B], got {t_B.dtype} of shape {list(t_B.shape)}")
        if bool(((t_B < 0) | (t_B >= self.num_steps)).any()):
            raise ValueError(f"t must lie in 0..{self.num_steps - 1}, got {t_B.tolist()}")

    def levels(self, t_B: Tensor) -> Tensor:
        """ab_t, float64 [B]. Raises ValueError as `check`."""
        self.check(t_B)
        return self.alphas_cumprod.to(t_B.device)[t_B]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32, or the dtype itself where that is wider."""
    return torch.promote_types(dtype, torch.float32)


def mix(first_BCHW: Tensor, first_B: Tensor, second_BCHW: Tensor, second_B: Tensor) -> Tensor:
    """first_B * first + second_B * second with float64 coefficients [B], in float32 or wider."""
    wide = wide_dtype(torch.promote_types(first_BCHW.dtype, second_BCHW.dtype))
    return _scale(first_BCHW.to(wide), first_B) + _scale(second_BCHW.to(wide), second_B)


def _scale(x_BCHW: Tensor, coefficient_B: Tensor) -> Tensor:
    shape = (-1,) + (1,) * (x_BCHW.dim() - 1)
    return x_BCHW * coefficient_B.to(x_BCHW.device, x_BCHW.dtype).reshape(shape)


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """sqrt(ab_t) x0 + sqrt(1 - ab_t) noise, [B, C, H, W] in x0's dtype. Raises ValueError for a bad t."""
    ab = schedule.levels(t)
    return mix(x0, ab.sqrt(), noise, (1 - ab).sqrt()).to(x0.dtype)


def target_noise(x0: Tensor, xt: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """tau = (x_t - sqrt(ab_t) x0) / sqrt(1 - ab_t): the noise that leads from x0 to x_t; undoes `add_noise`.

    [B, C, H, W] in x_t's dtype. SmPO-Diffusion (arXiv 2506.02698), public code; there ab is held in fp16.
    """
    ab = schedule.levels(t)
    return mix(xt, (1 - ab).rsqrt(), x0, -(ab / (1 - ab)).sqrt()).to(xt.dtype)


def prediction_target(
    x0: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule, prediction_type: PredictionType
) -> Tensor:
    """What the model should return at add_noise(x0, noise, t): the noise, or v = sqrt(ab) noise - sqrt(1 - ab) x0.

    [B, C, H, W] in the noise's dtype. Raises ValueError for a bad t or prediction type.
    """
    check_prediction_type(prediction_type)
    ab = schedule.levels(t)
    if prediction_type == "epsilon":
        return noise
    return mix(noise, ab.sqrt(), x0, -(1 - ab).sqrt()).to(noise.dtype)


def to_epsilon(
    prediction: Tensor, xt: Tensor, t: Tensor, schedule: NoiseSchedule, prediction_type: PredictionType
) -> Tensor:
    """The noise that a model output at (x_t, t) stands for: itself, or sqrt(ab) v + sqrt(1 - ab) x_t.

    [B, C, H, W] in the prediction's dtype. Raises ValueError for a bad t or prediction type.
    """
    check_prediction_type(prediction_type)
    ab = schedule.levels(t)
    if prediction_type == "epsilon":
        return prediction
    return mix(prediction, ab.sqrt(), xt, (1 - ab).sqrt()).to(prediction.dtype)


def check_prediction_type(prediction_type: str) -> None:
    """Raise ValueError unless the prediction type is known."""
    if prediction_type not in get_args(PredictionType):
        raise ValueError(f"prediction_type must be one of {get_args(PredictionType)}, got {prediction_type!r}")
