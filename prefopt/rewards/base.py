"""The protocol of reward models: (images, prompts) to scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from prefopt.errors import RewardError


class Reward(Protocol):
    """A loaded reward model. Higher is better; the score of an image depends on that image and prompt alone."""

    @property
    def name(self) -> str:
        """The name in configs and tables."""
        ...

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n] from n RGB images and n prompts."""
        ...


@dataclass(frozen=True)
class RewardSpec:
    """How to identify and load a reward model without loading it."""

    name: str
    version: str
    """Changes whenever scores may change: code version, weights digest, preprocessing."""
    load: Callable[[], Reward]


def checked_scores(
    reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """float32 [n] scores of n images. RewardError, naming the image, unless all are finite float32."""
    scores = reward.score(images, prompts)
    if scores.shape != (len(images),) or scores.dtype != np.float32:
        raise RewardError(
            f"Reward model {reward.name!r} gave {scores.dtype} {scores.shape} for {len(images)} images: it must give"
            f" float32 ({len(images)},)."
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        index = int(bad[0])
        raise RewardError(
            f"Reward model {reward.name!r} gave {scores[index]} for {names[index]} under the prompt"
            f" {prompts[index][:80]!r}: scores must be finite. Mend the reward model, or leave it out of the config."
        )
    return scores
