"""CLIP score: the cosine of a CLIP's image and text embeddings, whichever CLIP is configured.

Between -1 and 1; of generated images usually 0.2 to 0.35, and not comparable between backbones. The CLIPScore of
arXiv 2104.08718 is 2.5 x max(0, this).
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from prefopt.rewards.clip_model import ImagePixels, PromptFeatures, TextTokens, cosines, load_clip
from prefopt.rewards.files import CLIP_MODEL, CLIP_PIXELS, CLIP_VOCABULARY, FileSet
from prefopt.rewards.parts import Parts

VERSION = 2
FILES = {
    "weights": FileSet(
        needed=(*CLIP_MODEL.needed, *CLIP_PIXELS, *CLIP_VOCABULARY), safe=CLIP_MODEL.safe, pickled=CLIP_MODEL.pickled
    )
}


class ClipScore:
    """Higher is better."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        self._model = load_clip(parts, "weights")
        self._pixels = ImagePixels(parts.directory("weights"))
        self._prompts = PromptFeatures(self._model, TextTokens(parts.directory("weights")))

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        return cosines(self._model, self._pixels(images), self._prompts(prompts)).cpu().numpy()


load = ClipScore
