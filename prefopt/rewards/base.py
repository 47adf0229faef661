"""The protocol of reward models: (images, prompts) to scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image


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
