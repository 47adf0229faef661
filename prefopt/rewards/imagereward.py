"""ImageReward v1.0 (arXiv 2304.05977): BLIP ViT-L reads the prompt while looking at the image, a linear head scores.

Standardised with the published mean and deviation, so that scores lie mostly between -2 and 2.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer, BlipTextModel, BlipVisionModel, CLIPImageProcessorPil

from prefopt.rewards.blip import IMAGE, TEXT, UNUSED, image_name, text_config, text_name, vision_config
from prefopt.rewards.files import FileSet
from prefopt.rewards.head import LinearHead
from prefopt.rewards.parts import Parts, read_with
from prefopt.rewards.state_dicts import fill, refuse_other_names, same_name

VERSION = 1
FILES = {
    "weights": FileSet(needed=("med_config.json",), safe=("ImageReward.safetensors",), pickled=("ImageReward.pt",)),
    "tokenizer": FileSet(needed=("vocab.txt",)),
}
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
TEXT_TOKENS = 35
"""Of a prompt, with its start and end; what is longer is cut off."""
_HEAD = "mlp."


class ImageReward:
    """Higher is better."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        what = f"Weights of {parts.name!r}"
        published = parts.state_dict("weights")
        refuse_other_names(published, (IMAGE, TEXT, _HEAD), UNUSED, what)
        seeing = vision_config(published, what)
        reading = text_config(parts.directory("weights") / "med_config.json", seeing.hidden_size)
        self._image = fill(lambda: BlipVisionModel(seeing), _under(IMAGE, published), image_name, what=what)
        self._text = fill(
            lambda: BlipTextModel(reading, add_pooling_layer=False),
            _under(TEXT, published),
            text_name,
            ignored=UNUSED,
            what=what,
        )
        self._head = fill(
            lambda: LinearHead(reading.hidden_size),
            _under(_HEAD, published),
            lambda name: (_HEAD + name, same_name(name)[1]),
            what=what,
        )
        parts.placed(self._image, self._text)
        self._head.to(parts.device, torch.float32)
        self._pixels = CLIPImageProcessorPil()
        vocabulary = parts.directory("tokenizer") / "vocab.txt"
        self._tokenize = read_with(lambda _: BertTokenizer(vocab=str(vocabulary)), vocabulary)

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        pixels = self._pixels(images=list(images), return_tensors="pt")["pixel_values"]
        first = next(self._image.parameters())
        seen = self._image(pixel_values=pixels.to(first.device, first.dtype)).last_hidden_state
        tokens = self._tokenize(
            list(prompts), padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        ).to(first.device)
        read = self._text(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=seen
        ).last_hidden_state
        scores: Tensor = (self._head(read[:, 0].float()) - MEAN) / DEVIATION
        return scores.cpu().numpy()


def _under(prefix: str, published: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in published.items() if name.startswith(prefix)}


load = ImageReward
