"""The normalised CLS token of a DINOv2 (arXiv 2304.07193) in transformers' layout, after the last layer norm."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from prefopt.rewards.parts import Parts, read_with
from prefopt.rewards.state_dicts import as_it_is, fill

_MASK = "embeddings.mask_token"
"""Of pre-training alone."""
_PARTS = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.gate_proj": "mlp.weights_in",
    "mlp.up_proj": "mlp.weights_in",
    "mlp.down_proj": "mlp.weights_out",
}
"""transformers' names within a layer, and the published ones."""


class Dinov2Embedder:
    """Rows as wide as the network."""

    def __init__(self, parts: Parts) -> None:
        """InputError if the files cannot be used."""
        self.name = parts.name
        directory = parts.directory("weights")
        config = read_with(Dinov2Config.from_pretrained, directory / "config.json")
        published = parts.state_dict("weights")
        self._process = read_with(BitImageProcessorPil.from_pretrained, directory / "preprocessor_config.json")
        self._model = fill(
            lambda: Dinov2Model(config),
            published,
            lambda name: published_name(name, published),
            ignored=(_MASK,),
            what=f"Weights of {parts.name!r}",
        )
        parts.placed(self._model)

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, d]."""
        first = next(self._model.parameters())
        pixels: Tensor = self._process(images=list(images), return_tensors="pt")["pixel_values"]
        tokens: Tensor = self._model(pixel_values=pixels.to(first.device, first.dtype)).pooler_output
        rows: np.ndarray = functional.normalize(tokens.float(), dim=-1).cpu().numpy()
        return rows


def published_name(name: str, published: Mapping[str, Tensor]) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The published name of a parameter of transformers' Dinov2Model, and what makes the parameter from it.

    Files are published under the names of earlier transformers; one saved by a later one may have its own.
    """
    if name in published:
        return name, as_it_is
    for own, other in _PARTS.items():
        if f".{own}." in name:
            change = {"mlp.gate_proj": _first_half, "mlp.up_proj": _second_half}.get(own, as_it_is)
            return name.replace(f".{own}.", f".{other}."), change
    return name, as_it_is


def _first_half(tensor: Tensor) -> Tensor:
    return tensor.chunk(2)[0]


def _second_half(tensor: Tensor) -> Tensor:
    return tensor.chunk(2)[1]


load = Dinov2Embedder
