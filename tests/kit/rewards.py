"""A reward model that Ray's workers can import, and that can be broken."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Redness:
    """Scores an image by its red channel; NaN for the `broken` one of the kit's pictures."""

    broken: int | None = None
    name: str = "kit/redness"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        red = np.array([np.asarray(image)[0, 0, 0] for image in images], dtype=np.float32)
        return red if self.broken is None else np.where(red == self.broken, np.float32("nan"), red)
