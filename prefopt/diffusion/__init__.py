"""Diffusion mathematics on tensors: noise schedule, denoising errors, inversion, negative guidance."""

from prefopt.diffusion.errors import denoising_error, error_gap
from prefopt.diffusion.inversion import Grid, Predict, ddim_step, exact_levels, invert, level_counts, reference_levels
from prefopt.diffusion.negative import mix_weights, negative_guidance, weight_offset
from prefopt.diffusion.regularise import NoiseRegularisation, regularise_noise
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
    "NoiseRegularisation",
    "NoiseSchedule",
    "Predict",
    "PredictionType",
    "add_noise",
    "ddim_step",
    "denoising_error",
    "error_gap",
    "exact_levels",
    "invert",
    "level_counts",
    "mix_weights",
    "negative_guidance",
    "prediction_target",
    "reference_levels",
    "regularise_noise",
    "target_noise",
    "to_epsilon",
    "weight_offset",
]
