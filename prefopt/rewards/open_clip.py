"""CLIP checkpoints in open_clip's layout as transformers' CLIP."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers import CLIPConfig

from prefopt.errors import InputError
from prefopt.rewards.state_dicts import as_it_is

_WHOLE = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
}
_PREFIXES = {
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "text_model.final_layer_norm.": "ln_final.",
}
_TOWERS = {
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "text_model.encoder.layers.": "transformer.resblocks.",
}
_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_IN_PROJECTION = ("q_proj", "k_proj", "v_proj")
"""In the order in which the published in_proj tensors hold them."""
_NEEDED = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj", "token_embedding.weight")


def published_name(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The open_clip name of a parameter of transformers' CLIPModel, and what makes the parameter from it."""
    if name in ("visual_projection.weight", "text_projection.weight"):
        return _WHOLE[name], Tensor.t
    if name in _WHOLE:
        return _WHOLE[name], as_it_is
    for prefix, published in _PREFIXES.items():
        if name.startswith(prefix):
            return published + name.removeprefix(prefix), as_it_is
    for prefix, published in _TOWERS.items():
        if name.startswith(prefix):
            number, part = name.removeprefix(prefix).split(".", 1)
            within, change = _in_layer(part)
            return f"{published}{number}.{within}", change
    raise AssertionError(name)


def _in_layer(part: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    module, _, kind = part.rpartition(".")
    if module in _LAYER:
        return f"{_LAYER[module]}.{kind}", as_it_is
    third = _IN_PROJECTION.index(module.removeprefix("self_attn."))
    return f"attn.in_proj_{kind}", lambda tensor: tensor.chunk(3)[third]


def clip_config(published: Mapping[str, Tensor], *, vision_head: int, text_head: int, what: str) -> CLIPConfig:
    """The configuration of a checkpoint, from the shapes of its tensors and the width of an attention head.

    GELU as it is defined, layer norms with epsilon 1e-5, the end of text the highest token. InputError if a tensor
    that tells a size is missing.
    """
    missing = [name for name in _NEEDED if name not in published]
    if missing:
        raise InputError(f"{what}: missing {', '.join(missing)}. Is this the published file, and of this reward model?")
    patches = published["visual.conv1.weight"]
    grid = round((len(published["visual.positional_embedding"]) - 1) ** 0.5)
    vocabulary, text_width = published["token_embedding.weight"].shape
    vision_width, projection = published["visual.proj"].shape
    common: dict[str, Any] = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "projection_dim": projection}
    return CLIPConfig(
        projection_dim=projection,
        vision_config={
            **common,
            **_tower(published, "visual.transformer.resblocks.", vision_width, vision_head),
            "patch_size": patches.shape[-1],
            "image_size": grid * patches.shape[-1],
        },
        text_config={
            **common,
            **_tower(published, "transformer.resblocks.", text_width, text_head),
            "vocab_size": vocabulary,
            "max_position_embeddings": len(published["positional_embedding"]),
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 0,
        },
    )


def _tower(published: Mapping[str, Tensor], prefix: str, width: int, head: int) -> dict[str, int]:
    layers = {name.removeprefix(prefix).split(".")[0] for name in published if name.startswith(prefix)}
    inner = published.get(f"{prefix}0.mlp.c_fc.weight")
    return {
        "hidden_size": width,
        "num_attention_heads": max(1, width // head),
        "num_hidden_layers": len(layers),
        "intermediate_size": 4 * width if inner is None else len(inner),
    }
