"""Tiny random checkpoints of the reward models, with the file names and tensor names of the published ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from prefopt.config import RunConfig, parse_config
from tests.kit.data import config_tree

State = dict[str, Tensor]
SIDE, PATCH, TOKENS, PROJECTION, LAYERS = 224, 56, 77, 24, 2
BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
BYTES += [chr(256 + index) for index in range(256 - len(BYTES))]
MERGES = (("c", "a"), ("t", "h"), ("ca", "t</w>"), ("th", "e</w>"))
VOCABULARY = [*BYTES, *[f"{char}</w>" for char in BYTES], *["".join(merge) for merge in MERGES]]
VOCABULARY += ["<|startoftext|>", "<|endoftext|>"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "on", "mat", "##s", "the", "!"]
PROCESSOR = {
    "crop_size": SIDE,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": SIDE,
}


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """RGB images of several sizes and shapes, none like another."""
    rng = np.random.default_rng(seed)
    sizes = [(300, 260), (240, 400), (224, 224), (64, 48), (512, 100)]
    found = []
    for number in range(count):
        width, height = sizes[number % len(sizes)]
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        noise = rng.integers(-20, 20, (height, width, 3))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), dtype=np.int64)
        found.append(Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)))
    return found


def run_config(place: Path, **rewards: Any) -> RunConfig:
    """A config whose `rewards` are these, with a cache of its own."""
    tree = config_tree(place, [{"kind": "world", "pairs": 2}], store=str(place / "store"))
    tree["rewards"] = {"cache": str(place / "cache"), **rewards}
    return parse_config(tree, "config")


class Draws:
    """Random tensors, by shape."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float = 0.3) -> Tensor:
        return torch.from_numpy(self._rng.standard_normal(shape).astype(np.float32) * scale)

    def linear(self, name: str, out: int, into: int) -> State:
        """A linear layer that keeps the size of what goes through it."""
        return {f"{name}.weight": self(out, into, scale=into**-0.5), f"{name}.bias": self(out, scale=0.1)}

    def norm(self, name: str, width: int) -> State:
        """A layer norm near the identity."""
        return {f"{name}.weight": 1.0 + self(width, scale=0.1), f"{name}.bias": self(width, scale=0.1)}


def clip_state(seed: int, *, vision: int = 32, text: int = 32) -> State:
    """A CLIP in transformers' layout."""
    draw, grid = Draws(seed), (SIDE // PATCH) ** 2
    state = {
        "logit_scale": torch.tensor(4.6052),
        "visual_projection.weight": draw(PROJECTION, vision),
        "text_projection.weight": draw(PROJECTION, text),
        "text_model.embeddings.token_embedding.weight": draw(len(VOCABULARY), text),
        "text_model.embeddings.position_embedding.weight": draw(TOKENS, text),
        "text_model.embeddings.position_ids": torch.arange(TOKENS)[None],
        "vision_model.embeddings.class_embedding": draw(vision),
        "vision_model.embeddings.patch_embedding.weight": draw(vision, 3, PATCH, PATCH, scale=0.02),
        "vision_model.embeddings.position_embedding.weight": draw(1 + grid, vision),
        **draw.norm("text_model.final_layer_norm", text),
        **draw.norm("vision_model.pre_layrnorm", vision),
        **draw.norm("vision_model.post_layernorm", vision),
    }
    for tower, width in (("vision_model", vision), ("text_model", text)):
        for number in range(LAYERS):
            layer = f"{tower}.encoder.layers.{number}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                state |= draw.linear(f"{layer}.self_attn.{part}", width, width)
            state |= draw.linear(f"{layer}.mlp.fc1", 4 * width, width) | draw.linear(
                f"{layer}.mlp.fc2", width, 4 * width
            )
            state |= draw.norm(f"{layer}.layer_norm1", width) | draw.norm(f"{layer}.layer_norm2", width)
    return state


def clip_config(*, vision: int = 32, text: int = 32, heads: int = 2, act: str = "gelu") -> dict[str, Any]:
    """The config.json of `clip_state`, as published: it says less than transformers knows."""
    common = {
        "hidden_act": act,
        "num_attention_heads": heads,
        "num_hidden_layers": LAYERS,
        "projection_dim": PROJECTION,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": PROJECTION,
        "vision_config": {
            **common,
            "hidden_size": vision,
            "intermediate_size": 4 * vision,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        "text_config": {
            **common,
            "hidden_size": text,
            "intermediate_size": 4 * text,
            "vocab_size": len(VOCABULARY),
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
    }


def open_clip_state(seed: int) -> State:
    """A CLIP in open_clip's layout: heads of width 80 for images and 64 for text, as in ViT-H/14."""
    draw, grid, vision, text = Draws(seed), (SIDE // PATCH) ** 2, 160, 128
    state = {
        "positional_embedding": draw(TOKENS, text),
        "text_projection": draw(text, PROJECTION),
        "logit_scale": torch.tensor(4.6052),
        "visual.class_embedding": draw(vision),
        "visual.positional_embedding": draw(1 + grid, vision),
        "visual.proj": draw(vision, PROJECTION),
        "visual.conv1.weight": draw(vision, 3, PATCH, PATCH, scale=0.02),
        "token_embedding.weight": draw(len(VOCABULARY), text),
        **draw.norm("visual.ln_pre", vision),
        **draw.norm("visual.ln_post", vision),
        **draw.norm("ln_final", text),
    }
    for tower, width in (("visual.transformer", vision), ("transformer", text)):
        for number in range(LAYERS):
            layer = f"{tower}.resblocks.{number}"
            joined = draw.linear("x", 3 * width, width)
            state |= {
                f"{layer}.attn.in_proj_weight": joined["x.weight"],
                f"{layer}.attn.in_proj_bias": joined["x.bias"],
            }
            state |= draw.linear(f"{layer}.attn.out_proj", width, width)
            state |= draw.linear(f"{layer}.mlp.c_fc", 4 * width, width)
            state |= draw.linear(f"{layer}.mlp.c_proj", width, 4 * width)
            state |= draw.norm(f"{layer}.ln_1", width) | draw.norm(f"{layer}.ln_2", width)
    return state


def head_state(seed: int, width: int, prefix: str = "") -> State:
    """The linear head of LAION's aesthetic predictor and of ImageReward."""
    draw, state = Draws(seed), {}
    for at, out, into in ((0, 1024, width), (2, 128, 1024), (4, 64, 128), (6, 16, 64), (7, 1, 16)):
        state |= draw.linear(f"{prefix}layers.{at}", out, into)
    return state


MED_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 3,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "add_type_embeddings": False,
    "vocab_size": len(WORDS) + 2,
    "encoder_width": 48,
    "add_cross_attention": True,
}


def image_reward_state(seed: int) -> State:
    """ImageReward: BLIP's image encoder with heads of width 64, its text encoder, two unused projections, the head."""
    draw, image, text, grid = Draws(seed), 128, 48, (SIDE // PATCH) ** 2
    see, read = "blip.visual_encoder", "blip.text_encoder"
    state = {
        f"{see}.cls_token": draw(1, 1, image),
        f"{see}.pos_embed": draw(1, 1 + grid, image),
        f"{see}.patch_embed.proj.weight": draw(image, 3, PATCH, PATCH, scale=0.02),
        f"{see}.patch_embed.proj.bias": draw(image),
        f"{read}.embeddings.position_ids": torch.arange(512)[None],
        f"{read}.embeddings.word_embeddings.weight": draw(len(WORDS) + 2, text),
        f"{read}.embeddings.position_embeddings.weight": draw(512, text),
        **draw.norm(f"{see}.norm", image),
        **draw.norm(f"{read}.embeddings.LayerNorm", text),
        **draw.linear("blip.vision_proj", 256, image),
        **draw.linear("blip.text_proj", 256, text),
        **head_state(seed + 1, text, "mlp."),
    }
    for number in range(LAYERS):
        block, layer = f"{see}.blocks.{number}", f"{read}.encoder.layer.{number}"
        state |= draw.linear(f"{block}.attn.qkv", 3 * image, image) | draw.linear(f"{block}.attn.proj", image, image)
        state |= draw.linear(f"{block}.mlp.fc1", 4 * image, image) | draw.linear(f"{block}.mlp.fc2", image, 4 * image)
        state |= draw.norm(f"{block}.norm1", image) | draw.norm(f"{block}.norm2", image)
        for attention, seen in (("attention", text), ("crossattention", image)):
            state |= draw.linear(f"{layer}.{attention}.self.query", text, text)
            state |= draw.linear(f"{layer}.{attention}.self.key", text, seen)
            state |= draw.linear(f"{layer}.{attention}.self.value", text, seen)
            state |= draw.linear(f"{layer}.{attention}.output.dense", text, text)
            state |= draw.norm(f"{layer}.{attention}.output.LayerNorm", text)
        state |= draw.linear(f"{layer}.intermediate.dense", 96, text) | draw.linear(f"{layer}.output.dense", text, 96)
        state |= draw.norm(f"{layer}.output.LayerNorm", text)
    return state


def write_clip(place: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Path:
    """A CLIP as published: weights, config, processor, vocabulary."""
    write_processor(place)
    write_vocabulary(place)
    (place / "config.json").write_text(json.dumps(config))
    save_file(dict(state), place / "model.safetensors")
    return place


def write_processor(place: Path) -> Path:
    """preprocessor_config.json."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return place


def write_vocabulary(place: Path) -> Path:
    """vocab.json and merges.txt of a byte-level tokenizer that knows two words."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(VOCABULARY)}))
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *[" ".join(merge) for merge in MERGES], ""]))
    return place


def write_words(place: Path) -> Path:
    """vocab.txt of a word-piece tokenizer."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return place
