"""Tiny random DINOv2 checkpoints, with the file names and tensor names of the published ones, and their formula."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from prefopt.config import RunConfig, parse_config
from tests.kit.data import config_tree
from tests.rewards.checkpoints import Draws, State
from tests.rewards.formulas import attend, gelu, linear, norm

WIDTH, HEADS, LAYERS, PATCH, RESIZED, SIDE = 32, 2, 2, 14, 32, 28
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def feature_config(place: Path, features: dict[str, Any] | None, **branches: Any) -> RunConfig:
    """A config with these image features, and a cache of its own."""
    rewards = {"cache": str(place / "cache"), **branches.pop("rewards", {})}
    tree = config_tree(place, [{"kind": "world", "pairs": 2}], rewards=rewards, **branches)
    tree["evaluate"]["features"] = features
    return parse_config(tree, "config")


def dinov2_state(seed: int, *, grid: int = SIDE // PATCH, swiglu: bool = False) -> State:
    """A DINOv2 under its published names, with positions for grid x grid patches."""
    draw = Draws(seed)
    state = {
        "embeddings.cls_token": draw(1, 1, WIDTH),
        "embeddings.mask_token": draw(1, WIDTH),
        "embeddings.position_embeddings": draw(1, 1 + grid**2, WIDTH),
        "embeddings.patch_embeddings.projection.weight": draw(WIDTH, 3, PATCH, PATCH, scale=0.04),
        "embeddings.patch_embeddings.projection.bias": draw(WIDTH),
        **draw.norm("layernorm", WIDTH),
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            state |= draw.linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        if swiglu:
            hidden = (int(4 * WIDTH * 2 / 3) + 7) // 8 * 8
            state |= draw.linear(f"{layer}.mlp.weights_in", 2 * hidden, WIDTH)
            state |= draw.linear(f"{layer}.mlp.weights_out", WIDTH, hidden)
        else:
            state |= draw.linear(f"{layer}.mlp.fc1", 4 * WIDTH, WIDTH) | draw.linear(
                f"{layer}.mlp.fc2", WIDTH, 4 * WIDTH
            )
        for part in ("1", "2"):
            state |= draw.norm(f"{layer}.norm{part}", WIDTH)
            state[f"{layer}.layer_scale{part}.lambda1"] = 0.5 + draw(WIDTH)
    return state


def write_dinov2(place: Path, state: State, *, grid: int = SIDE // PATCH, swiglu: bool = False) -> Path:
    """A DINOv2 as published: weights, config, processor."""
    place.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "image_size": grid * PATCH,
        "patch_size": PATCH,
        "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": swiglu,
    }
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": RESIZED},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": MEAN.tolist(),
        "image_std": DEVIATION.tolist(),
    }
    (place / "config.json").write_text(json.dumps(config))
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    save_file(dict(state), place / "model.safetensors")
    return place


def dinov2_pixels(image: Image.Image) -> Tensor:
    """Shorter side to 32 by PIL's bicubic, the middle 28 x 28, normalised: float64 [3, 28, 28]."""
    short = min(image.size)
    width, height = (int(RESIZED * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    values = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float64) / 255.0
    return torch.from_numpy(((values - MEAN) / DEVIATION).transpose(2, 0, 1))


def dinov2_token(state: State, pixels: Tensor) -> Tensor:
    """The CLS token after the last norm, float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    patch = "embeddings.patch_embeddings.projection"
    count = SIDE // PATCH
    cut = pixels.reshape(3, count, PATCH, count, PATCH).permute(1, 3, 0, 2, 4).reshape(count**2, -1)
    x = cut @ state[f"{patch}.weight"].reshape(WIDTH, -1).T + state[f"{patch}.bias"]
    x = torch.cat([state["embeddings.cls_token"][0], x]) + _positions(state["embeddings.position_embeddings"][0], count)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        inner = norm(state, f"{layer}.norm1", x, 1e-6)
        query, key, value = (
            linear(state, f"{layer}.attention.attention.{p}", inner) for p in ("query", "key", "value")
        )
        inner = linear(state, f"{layer}.attention.output.dense", attend(query, key, value, HEADS))
        x = x + inner * state[f"{layer}.layer_scale1.lambda1"]
        inner = _feed(state, f"{layer}.mlp", norm(state, f"{layer}.norm2", x, 1e-6))
        x = x + inner * state[f"{layer}.layer_scale2.lambda1"]
    return norm(state, "layernorm", x[0], 1e-6)


def _feed(state: State, at: str, x: Tensor) -> Tensor:
    if f"{at}.fc1.weight" in state:
        return linear(state, f"{at}.fc2", gelu(linear(state, f"{at}.fc1", x)))
    gate, value = linear(state, f"{at}.weights_in", x).chunk(2, dim=-1)
    return linear(state, f"{at}.weights_out", gate / (1.0 + torch.exp(-gate)) * value)


def _positions(learned: Tensor, count: int) -> Tensor:
    """Positions for count x count patches, interpolated where others were learned."""
    grid = round((len(learned) - 1) ** 0.5)
    if grid == count:
        return learned
    square = learned[1:].T.reshape(1, WIDTH, grid, grid)
    fitted = functional.interpolate(square, size=(count, count), mode="bicubic", align_corners=False)
    return torch.cat([learned[:1], fitted[0].reshape(WIDTH, -1).T])
