"""BLIP's image encoder, and its text encoder that looks at the image, with weights in BLIP's own layout."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BlipTextConfig, BlipVisionConfig

from prefopt.errors import InputError
from prefopt.rewards.state_dicts import as_it_is

IMAGE, TEXT = "blip.visual_encoder.", "blip.text_encoder."
UNUSED = (
    "blip.vision_proj.weight",
    "blip.vision_proj.bias",
    "blip.text_proj.weight",
    "blip.text_proj.bias",
    "blip.text_encoder.embeddings.position_ids",
)
"""In the published file, and without a part in the score."""
_VISION_HEAD = 64
_WHOLE = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
    "post_layernorm.weight": "norm.weight",
    "post_layernorm.bias": "norm.bias",
}
_LAYERS = "encoder.layers."
_LAYER = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.qkv": "attn.qkv",
    "self_attn.projection": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def image_name(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The published name of a parameter of transformers' BlipVisionModel."""
    if name in _WHOLE:
        return IMAGE + _WHOLE[name], as_it_is
    number, part = name.removeprefix(_LAYERS).split(".", 1)
    module, _, kind = part.rpartition(".")
    return f"{IMAGE}blocks.{number}.{_LAYER[module]}.{kind}", as_it_is


def text_name(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The published name of a parameter of transformers' BlipTextModel."""
    return TEXT + name, as_it_is


def vision_config(published: Mapping[str, Tensor], what: str) -> BlipVisionConfig:
    """The image encoder's configuration, from the shapes of its tensors. InputError if one that tells it is missing."""
    patches, positions = (published.get(IMAGE + name) for name in ("patch_embed.proj.weight", "pos_embed"))
    inner = published.get(f"{IMAGE}blocks.0.mlp.fc1.weight")
    if patches is None or positions is None or inner is None:
        raise InputError(
            f"{what}: the image encoder ({IMAGE}*) is missing. Is this the published file, and of this reward model?"
        )
    width, patch = patches.shape[0], patches.shape[-1]
    prefix = f"{IMAGE}blocks."
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=inner.shape[0],
        num_hidden_layers=len(
            {name.removeprefix(prefix).split(".")[0] for name in published if name.startswith(prefix)}
        ),
        num_attention_heads=max(1, width // _VISION_HEAD),
        image_size=patch * round((positions.shape[1] - 1) ** 0.5),
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )


def text_config(med_config: Path, vision_width: int) -> BlipTextConfig:
    """The text encoder's configuration, from the published med_config.json. InputError if it cannot be used."""
    try:
        given: dict[str, Any] = json.loads(med_config.read_bytes())
        return BlipTextConfig(
            encoder_hidden_size=vision_width,
            **{name: given[name] for name in _TEXT_SIZES},
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            is_decoder=True,  # transformers' word for layers with cross-attention
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"Cannot use {med_config}: {detail}") from None


_TEXT_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
)
