"""Loading the UNet and the adapters that a source of weights stands for."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn

from prefopt.config.train import LoraConfig
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError
from prefopt.models.adapters import adapter_parameters, adapter_scales
from prefopt.models.families import model_family
from prefopt.models.identity import LORA_WEIGHTS
from prefopt.models.loading import moved, reading
from prefopt.models.sources import WeightsSource, local_directory

_LIKE_THE_BASE = ("in_channels", "out_channels", "cross_attention_dim", "projection_class_embeddings_input_dim")
_READ, _UNET = "read", "unet"


@dataclass(frozen=True)
class Adapter:
    """Low-rank weights as they were read, named as by `adapter_parameters`."""

    values: Mapping[str, Tensor]
    scales: Mapping[str, float]
    """alpha / rank by layer."""


def load_unet(source: WeightsSource, base: WeightsSource, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet of a source, frozen, in eval mode; adapters are merged into its weights.

    Raises InputError if it cannot be read, or if it is not used as the base model's UNet is: another family,
    prediction type or shape of inputs.
    """
    below = source.below
    with _as_directory(below) as place:
        _check_like_the_base(below, place, base)
        with reading(f"the UNet of {below.name}"):
            unet: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(
                place,
                subfolder="unet",
                revision=below.revision,
                dtype=torch.float32,
                use_safetensors=True,
                low_cpu_mem_usage=False,
            )
    if source.onto is not None:
        load_adapter(unet, source, _READ)
        unet.fuse_lora()
        unet.unload_lora()
    return moved(unet, unet.device, dtype).requires_grad_(False).eval()


def load_adapter(unet: UNet2DConditionModel, source: WeightsSource, name: str) -> None:
    """Put a source's adapters onto a UNet under a name, frozen.

    InputError if they cannot be read or do not fit; ConfigError if there are weights of other parts among them.
    """
    with _as_directory(source) as place, reading(f"the adapter {source.name}"):
        _check_unet_alone(Path(place) / LORA_WEIGHTS, source)
        unet.load_lora_adapter(place, weight_name=LORA_WEIGHTS, prefix=_UNET, adapter_name=name, use_safetensors=True)
    values = adapter_parameters(unet, name)
    if not values:
        raise InputError(f"{source.name} holds no adapter of a UNet.")
    for parameter in values.values():
        parameter.requires_grad_(False)


def _check_unet_alone(file: Path, source: WeightsSource) -> None:
    """ConfigError if a file has weights of a UNet and of more, which would be left out without a word."""
    with safe_open(str(file), framework="pt") as weights:
        parts = Counter(key.split(".")[0] for key in weights.keys())  # noqa: SIM118
    others = {part: count for part, count in sorted(parts.items()) if part != _UNET}
    if others and _UNET in parts:
        counted = ", ".join(f"{count} of {part}" for part, count in others.items())
        raise ConfigError(
            f"The LoRA weights {source.name} hold more than a UNet's adapter: beside {parts[_UNET]} tensors of {_UNET}"
            f" there are {counted}. Only the UNet is trained here and its adapters alone can be used: name LoRA weights"
            " of a UNet alone, or a full model into which these are merged."
        )


def read_adapter(unet: UNet2DConditionModel, source: WeightsSource) -> Adapter:
    """A source's adapters, for a UNet that they fit and that has none yet. The UNet is left as it was."""
    load_adapter(unet, source, _READ)
    values = {key: parameter.detach().clone() for key, parameter in adapter_parameters(unet, _READ).items()}
    adapter = Adapter(values, adapter_scales(unet, _READ))
    unet.unload_lora()
    return adapter


def start_adapter(unet: nn.Module, name: str, adapter: Adapter, config: LoraConfig, field: str) -> None:
    """Give an adapter of a UNet its first values. ConfigError if they are of another rank, scale or other layers."""
    mine = adapter_parameters(unet, name)
    fits = mine.keys() == adapter.values.keys() and all(mine[k].shape == v.shape for k, v in adapter.values.items())
    if not fits or set(adapter.scales.values()) != {config.alpha / config.rank}:
        raise ConfigError(
            f"train.lora (rank {config.rank}, alpha {config.alpha:g}, targets {', '.join(config.targets)}) is not what"
            f" {field} was trained with ({_described(adapter)}): training goes on with the same adapter, so give"
            " train.lora its settings."
        )
    for key, parameter in mine.items():
        parameter.data.copy_(adapter.values[key])


def _described(adapter: Adapter) -> str:
    ranks = sorted({value.shape[0] for key, value in adapter.values.items() if ".lora_A." in key})
    layers = {key.split(".lora_")[0].split(".")[-1] for key in adapter.values}
    scales = ", ".join(f"{scale:g}" for scale in sorted(set(adapter.scales.values())))
    return f"rank {', '.join(map(str, ranks))}, alpha / rank {scales}, layers named {', '.join(sorted(layers))}"


def _as_directory(source: WeightsSource) -> AbstractContextManager[Path | str]:
    return local_directory(Storage(source.place)) if "://" in source.place else nullcontext(source.place)


def _check_like_the_base(source: WeightsSource, place: Path | str, base: WeightsSource) -> None:
    if source.digest == base.digest:
        return
    mine, other = (_used_as(source, str(place)), _used_as(base, base.place))
    for what, value in mine.items():
        if value != other[what]:
            raise InputError(
                f"The model {source.name} has {what} {value}, but the base model {base.name} has {other[what]}: they"
                " cannot stand for each other."
            )


def _used_as(source: WeightsSource, place: str) -> dict[str, Any]:
    """What decides how a model's UNet is called and what its output means."""
    with reading(f"the model {source.name}"):
        unet = UNet2DConditionModel.load_config(place, subfolder="unet", revision=source.revision)
        scheduler = DDIMScheduler.load_config(place, subfolder="scheduler", revision=source.revision)
    family = model_family(source.as_model.model_copy(update={"path": place}))
    return {
        "family": family.name,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        **{name: unet.get(name) for name in _LIKE_THE_BASE},
    }
