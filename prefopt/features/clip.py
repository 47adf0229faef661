"""Normalised image embeddings of a CLIP (arXiv 2103.00020) in transformers' layout."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from prefopt.rewards.clip_model import ImagePixels, image_features, load_clip_vision
from prefopt.rewards.parts import Parts


class ClipEmbedder:
    """Rows as wide as the CLIP's projection."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        self._model = load_clip_vision(parts, "weights")
        self._pixels = ImagePixels(parts.directory("weights"))

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, d]."""
        rows: np.ndarray = image_features(self._model, self._pixels(images)).cpu().numpy()
        return rows


load = ClipEmbedder
