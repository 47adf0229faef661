"""Writing tuned models so that diffusers loads them without any code of this project."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.models.adapters import save_adapter
from prefopt.models.loading import load_pipeline, moved
from prefopt.models.sources import TrainingWeights
from prefopt.models.unets import load_unet

_PLACE_OF_ORIGIN = "_name_or_path"


def export_full(
    directory: Path,
    model: ModelConfig,
    weights: TrainingWeights,
    unet_weights: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the base pipeline with the tuned UNet: `from_pretrained(directory)` of its pipeline class loads it.

    The UNet is stored in `dtype`, the other parts in float32, all as safetensors. The same weights give the same
    bytes: no path of the base model is kept in the configs.
    """
    unet = load_unet(weights.init.below, weights.base)
    unet.load_state_dict(dict(unet_weights))
    pipeline = load_pipeline(model, unet=moved(unet, unet.device, dtype))
    pipeline.save_pretrained(str(directory), safe_serialization=True)
    for config in sorted(directory.rglob("*.json")):
        _forget_origin(config)


def export_lora(directory: Path, adapter: Mapping[str, Tensor], config: LoraConfig) -> None:
    """Write an adapter: `pipeline.load_lora_weights(directory)` loads it onto the model that training started from."""
    save_adapter(directory, adapter, config)


def _forget_origin(path: Path) -> None:
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and _PLACE_OF_ORIGIN in content:
        del content[_PLACE_OF_ORIGIN]
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
