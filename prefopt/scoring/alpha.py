"""The soft preference alpha (SmPO-Diffusion, arXiv 2506.02698), of one reward or of a weighted ensemble.

Each reward r is brought to n_r = (score - low_r) / (high_r - low_r). The ensemble's score is the mean of n_r with the
weights, and alpha = softmax over the pair = sigma(gap), the gap being the score of image_0 minus that of image_1. Of a
range only its width matters, since its ends cancel in the gap.
"""

from collections.abc import Mapping

import numpy as np
import torch

from prefopt.config import RunConfig
from prefopt.config.alpha import PUBLISHED_RANGES, AlphaMember
from prefopt.data.scales import Calibration, RewardScale
from prefopt.objectives.smpo import reward_preference
from prefopt.scoring.calibration import calibrated_share


def preference_gaps(
    config: RunConfig, rewards: Mapping[str, tuple[np.ndarray, np.ndarray]], scales: Mapping[str, RewardScale]
) -> np.ndarray:
    """Gaps between the weighted means of normalised scores, float64 [n], from scores of image_0 and image_1 [n] each.

    A reward that is the same for nearly all images of the training split has no range, and adds nothing.
    """
    assert config.score.alpha is not None
    members = config.score.alpha.members()
    total = sum(member.weight for member in members.values())
    gaps = np.zeros(len(next(iter(rewards.values()))[0]))
    for name, member in members.items():
        low, high = _range(config, name, member, scales)
        if high > low:
            gaps += member.weight / total * (np.subtract(*rewards[name], dtype=np.float64) / (high - low))
    return gaps


def soft_preference(gap: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
    """alpha [n] = P(image_0 is preferred): sigma(gap) as published, or the calibrated share of people.

    Exactly 1 - alpha for the opposite gap, and never falling as the gap rises.
    """
    size = np.abs(gap)
    if calibration is None:
        larger = reward_preference(torch.from_numpy(size), torch.zeros(len(size)), 0.0, 1.0).numpy()
    else:
        larger = calibrated_share(calibration, size)
    alpha: np.ndarray = np.where(gap >= 0.0, larger, 1.0 - larger)
    return alpha


def _range(config: RunConfig, name: str, member: AlphaMember, scales: Mapping[str, RewardScale]) -> tuple[float, float]:
    if member.normalise == "constants":
        return member.minimum, member.maximum
    if member.normalise == "scales":
        return scales[name].low, scales[name].high
    model = config.rewards.model(name)
    assert model is not None, "the config was checked"
    return PUBLISHED_RANGES[model.kind]
