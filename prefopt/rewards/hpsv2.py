"""Human Preference Score v2 and v2.1 (arXiv 2306.09341): the cosine of a fine-tuned CLIP ViT-H/14.

Around 0.25 to 0.31; published tables show a hundred times that. v2 and v2.1 are not comparable.
"""

import html
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from prefopt.config.rewards import Hpsv2Model
from prefopt.rewards.clip_model import PromptFeatures, TextTokens, cosines
from prefopt.rewards.files import CLIP_VOCABULARY, FileSet
from prefopt.rewards.open_clip import clip_config, published_name
from prefopt.rewards.parts import Parts
from prefopt.rewards.state_dicts import fill

VERSION = 2
SIDE, VISION_HEAD, TEXT_HEAD = 224, 80, 64
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_STEMS = {"hpsv2": "HPS_v2_compressed", "hpsv2.1": "HPS_v2.1_compressed"}


def files(kind: str) -> dict[str, FileSet]:
    """What v2 or v2.1 needs."""
    stem = _STEMS[kind]
    return {
        "weights": FileSet(safe=(f"{stem}.safetensors",), pickled=(f"{stem}.pt",)),
        "tokenizer": FileSet(needed=CLIP_VOCABULARY),
    }


def padded_pixels(image: Image.Image, antialias: bool) -> Tensor:
    """float32 [3, 224, 224] of an RGB image: longest side to 224 by bicubic interpolation of values in [0, 1], not
    clipped; black around the shorter side; then CLIP's mean and standard deviation, of the black too.
    """
    values = torch.from_numpy(np.array(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255.0))
    height, width = values.shape[1:]
    scale = SIDE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if size != (height, width):
        values = functional.interpolate(values[None], size=size, mode="bicubic", antialias=antialias)[0]
    down, right = SIDE - size[0], SIDE - size[1]
    values = functional.pad(values, (right // 2, right - right // 2, down // 2, down - down // 2))
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


class HumanPreferenceScore:
    """Higher is better."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        assert isinstance(parts.model, Hpsv2Model)
        self.name = parts.name
        self._antialias = parts.model.antialias
        published, what = parts.state_dict("weights"), f"Weights of {parts.name!r}"
        config = clip_config(published, vision_head=VISION_HEAD, text_head=TEXT_HEAD, what=what)
        self._model = fill(lambda: CLIPModel(config), published, published_name, what=what)
        parts.placed(self._model)
        self._prompts = PromptFeatures(self._model, TextTokens(parts.directory("tokenizer")))

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        pixels = torch.stack([padded_pixels(image, self._antialias) for image in images])
        features = self._prompts([html.unescape(html.unescape(prompt)) for prompt in prompts])
        return cosines(self._model, pixels, features).cpu().numpy()


load = HumanPreferenceScore
