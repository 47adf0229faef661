"""PickScore v1 (arXiv 2305.01569): exp(logit scale) x cosine of a fine-tuned CLIP ViT-H/14.

The published logit scale is about 100, so that scores of generated images lie around 20 to 23; some code gives the
bare cosine instead, 0.20 to 0.23.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prefopt.rewards.clip_model import ImagePixels, PromptFeatures, TextTokens, cosines, load_clip
from prefopt.rewards.files import CLIP_MODEL, CLIP_PIXELS, CLIP_VOCABULARY, FileSet
from prefopt.rewards.parts import Parts

VERSION = 2
FILES = {"weights": CLIP_MODEL, "processor": FileSet(needed=(*CLIP_PIXELS, *CLIP_VOCABULARY))}


class PickScore:
    """Higher is better."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        self._model = load_clip(parts, "weights")
        self._pixels = ImagePixels(parts.directory("processor"))
        self._prompts = PromptFeatures(self._model, TextTokens(parts.directory("processor")))

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        scale: Tensor = self._model.logit_scale.exp()
        return (scale * cosines(self._model, self._pixels(images), self._prompts(prompts))).cpu().numpy()


load = PickScore
