"""How large a UNet is, from its config alone: no weight is loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.errors import InputError
from prefopt.models.identity import model_directory


@dataclass(frozen=True)
class UNetSize:
    """Numbers of parameters."""

    total: int
    largest_layer: int
    """Of the largest single layer, which ZeRO 3 gathers whole."""
    lora: int
    """Of one low-rank adapter."""
    factored: int
    """Values of Adafactor's second moment, in rows and columns, if all parameters are trained."""


def empty_unet(model: ModelConfig) -> UNet2DConditionModel:
    """The model's UNet without memory for its weights. Raises InputError if its config cannot be read."""
    try:
        config = UNet2DConditionModel.load_config(model_directory(model), subfolder="unet", revision=model.revision)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the model {model.path!r}: {' '.join(str(error).split())}") from None
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
    return unet.eval()


def unet_size(unet: nn.Module, lora: LoraConfig) -> UNetSize:
    """Count the parameters of a UNet, and those that an adapter would add."""
    return UNetSize(
        total=sum(parameter.numel() for parameter in unet.parameters()),
        largest_layer=max(sum(p.numel() for p in module.parameters(recurse=False)) for module in unet.modules()),
        lora=sum(
            _adapter_size(module, lora.rank) for name, module in unet.named_modules() if _is_target(name, lora.targets)
        ),
        factored=sum(_factored_size(parameter.shape) for parameter in unet.parameters()),
    )


def _adapter_size(module: nn.Module, rank: int) -> int:
    """Down to the rank, and up again: of a convolution the first has its kernel, the second one of a single point."""
    if isinstance(module, nn.Linear):
        return rank * (module.in_features + module.out_features)
    if isinstance(module, nn.Conv2d):
        return rank * (module.in_channels * math.prod(module.kernel_size) + module.out_channels)
    return 0


def _factored_size(shape: Sequence[int]) -> int:
    values = math.prod(shape)
    return values // shape[-1] + values // shape[-2] if len(shape) > 1 else values


def _is_target(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
