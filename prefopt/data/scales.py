"""Frozen scales: quantiles and RMS of each reward on the training split, so that new data does not move old pairs."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

QUANTILES = (0.01, 0.99)


class RewardScale(BaseModel):
    """Scale of one reward on the training split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    """The 1 % quantile of scores."""
    high: float
    """The 99 % quantile of scores."""
    rms: float
    """Root mean square of the pairs' gaps."""


class Scales(BaseModel):
    """What scales.json holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    rewards: dict[str, RewardScale]
    crowd_rms: float = 0.0
    """Root mean square of the crowd's margins; 0 without pairs that several people judged."""


def measure_scales(scores: Mapping[str, tuple[np.ndarray, np.ndarray]], crowd: np.ndarray) -> Scales:
    """Scales from the training pairs: per reward the scores of image_0 and image_1 [n], and the crowd's margins."""
    rewards = {}
    for name, (first, second) in scores.items():
        low, high = np.quantile(np.concatenate([first, second]).astype(np.float64), QUANTILES)
        rewards[name] = RewardScale(low=float(low), high=float(high), rms=_rms(first.astype(np.float64) - second))
    return Scales(rewards=rewards, crowd_rms=_rms(crowd))


def scaled_margin(gap: np.ndarray, rms: float, rho: float) -> np.ndarray:
    """Annotator logits rho * gap / RMS, NaN where the gap is; zeros if the annotator never sees a difference."""
    return np.asarray(rho * gap / rms if rms > 0.0 else 0.0 * gap, dtype=np.float64)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
