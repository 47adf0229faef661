"""LAION's aesthetic predictor, sac+logos+ava1-l14-linearMSE: a linear head on CLIP ViT-L/14's image embedding.

Trained on ratings from 1 to 10; most images get 4 to 7. The prompt plays no part.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from prefopt.rewards.clip_model import ImagePixels, image_features, load_clip_vision
from prefopt.rewards.files import CLIP_MODEL, CLIP_PIXELS, FileSet
from prefopt.rewards.head import LinearHead
from prefopt.rewards.parts import Parts
from prefopt.rewards.state_dicts import fill, same_name

VERSION = 1
_STEM = "sac+logos+ava1-l14-linearMSE"
FILES = {
    "weights": FileSet(safe=("model.safetensors", f"{_STEM}.safetensors"), pickled=(f"{_STEM}.pth",)),
    "backbone": FileSet(needed=(*CLIP_MODEL.needed, *CLIP_PIXELS), safe=CLIP_MODEL.safe, pickled=CLIP_MODEL.pickled),
}


class Aesthetic:
    """Higher is better."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        self._backbone = load_clip_vision(parts, "backbone")
        width = self._backbone.config.projection_dim
        what = f"Head of {parts.name!r}"
        self._head = fill(lambda: LinearHead(width), parts.state_dict("weights"), same_name, what=what)
        self._head.to(parts.device, torch.float32)
        self._pixels = ImagePixels(parts.directory("backbone"))

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        scores: np.ndarray = self._head(image_features(self._backbone, self._pixels(images))).cpu().numpy()
        return scores


load = Aesthetic
