"""Low-rank adapters on a UNet: policy, slow and fast averages side by side; the reference with adapters off, or one
more of them.

Switching sets the active adapter alone. peft's own `set_adapter` and `enable_adapters` would also move
`requires_grad` from the policy to the adapter they switch to.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from prefopt.config.train import LoraConfig
from prefopt.data.ids import row_normal
from prefopt.errors import ConfigError
from prefopt.models.identity import LORA_WEIGHTS

POLICY, SLOW, FAST, REFERENCE = "policy", "slow", "fast", "reference"


def add_adapters(unet: Any, config: LoraConfig, names: tuple[str, ...], seed: int) -> None:
    """Freeze a UNet and add adapters that all start alike: the first is trained, the others never get gradients.

    A is normal with deviation 1 / rank, a function of the seed and the layer's name; B is zero, so that the adapted
    UNet is still the base. Raises ConfigError if no layer is called as `config.targets` say.
    """
    unet.requires_grad_(False)
    peft_config = PeftLoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets))
    try:
        for name in names:
            unet.add_adapter(peft_config, adapter_name=name)
    except ValueError as error:
        raise ConfigError(f"train.lora.targets {list(config.targets)} fit no layer of the UNet: {error}") from None
    for index, name in enumerate(names):
        for key, parameter in adapter_parameters(unet, name).items():
            parameter.requires_grad_(index == 0)
            if ".lora_A." in key:
                noise = torch.from_numpy(row_normal(tuple(parameter.shape), seed, "lora", key)) / config.rank
                parameter.data.copy_(noise)
            else:
                parameter.data.zero_()
    set_active(unet, names[0])


def adapter_parameters(unet: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter by their name without the adapter's, in the UNet's order."""
    return {
        key.replace(f".{name}.weight", ".weight"): parameter
        for key, parameter in unet.named_parameters()
        if f".lora_A.{name}." in key or f".lora_B.{name}." in key
    }


def adapter_scales(unet: nn.Module, name: str) -> dict[str, float]:
    """What one adapter's product is multiplied with, alpha / rank, by layer."""
    return {
        layer: float(module.scaling[name])
        for layer, module in unet.named_modules()
        if isinstance(module, BaseTunerLayer) and name in module.scaling
    }


def set_active(unet: nn.Module, name: str | None) -> None:
    """Let one adapter act, or none (the reference). Every parameter keeps its `requires_grad`."""
    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            module._disable_adapters = name is None
            if name is not None:
                module._active_adapter = [name]


@contextlib.contextmanager
def acting(unet: nn.Module, name: str | None) -> Iterator[None]:
    """Let another adapter (or none) act without gradient, then the policy again.

    Never to be used between the policy's forward and backward.
    """
    set_active(unet, name)
    try:
        with torch.no_grad():
            yield
    finally:
        set_active(unet, POLICY)


def save_adapter(directory: Path, values: Mapping[str, Tensor], config: LoraConfig) -> None:
    """Write an adapter so that `pipeline.load_lora_weights(directory)` loads it; the same values give the same bytes.

    `values` are named as by `adapter_parameters`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    metadata = {"r": config.rank, "lora_alpha": config.alpha, "target_modules": sorted(config.targets)}
    packed = json.dumps({f"unet.{key}": value for key, value in metadata.items()}, sort_keys=True)
    tensors = {f"unet.{key}": value.detach().cpu().contiguous() for key, value in sorted(values.items())}
    # One metadata entry only: safetensors writes several in a random order.
    save_file(tensors, str(directory / LORA_WEIGHTS), metadata={"lora_adapter_metadata": packed})
