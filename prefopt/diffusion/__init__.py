"""Diffusion mathematics on tensors: noise schedule, denoising errors, inversion."""

from prefopt.diffusion.errors import denoising_error, error_gap
from prefopt.diffusion.inversion import Grid, Predict, ddim_step, exact_levels, invert, reference_levels
from prefopt.diffusion.schedule import (
    NoiseSchedule,
    PredictionType,
    add_noise,
    prediction_target,
    target_noise,
    to_epsilon,
)

__all__ = [
    "Grid",
    "NoiseSchedule",
    "Predict",
    "PredictionType",
    "add_noise",
    "ddim_step",
    "denoising_error",
    "error_gap",
    "exact_levels",
    "invert",
    "prediction_target",
    "reference_levels",
    "target_noise",
    "to_epsilon",
]
