"""The models of a run: the policy that learns, the frozen reference, and the policy's slow and fast averages."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prefopt.config import RunConfig
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.engine import PolicyEngine, shard_frozen
from prefopt.models.adapters import FAST, POLICY, SLOW, acting, adapter_parameters, add_adapters

REFERENCE = "reference"
AVERAGES = (SLOW, FAST)


class Denoisers(Protocol):
    """What a training step needs of the models."""

    engine: PolicyEngine

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """Prediction [2B, C, H, W] of the policy, an average or the reference, without gradient."""

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """Working weights of an average, by the policy's parameter names."""


def build_denoisers(
    unet: nn.Module, config: RunConfig, averages: Sequence[str], world_size: int, zero_options: Mapping[str, Any]
) -> Denoisers:
    """The models of a run from its base UNet, which becomes the policy."""
    kind = LoraDenoisers if config.train.method == "lora" else FullDenoisers
    return kind(unet, config, averages, world_size, zero_options)


class LoraDenoisers:
    """One UNet with an adapter each for policy, slow and fast; with adapters off it is the reference."""

    def __init__(
        self,
        unet: nn.Module,
        config: RunConfig,
        averages: Sequence[str],
        world_size: int,
        zero_options: Mapping[str, Any],
    ) -> None:
        add_adapters(unet, config.train.lora, (POLICY, *averages), config.seed)
        self.engine = PolicyEngine(unet, config.train, world_size, zero_options)
        names = list(self.engine.parameters)
        self._names = dict(zip(adapter_parameters(unet, POLICY), names, strict=True))

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """See `Denoisers`."""
        with acting(self.engine.module, None if who == REFERENCE else who):
            return _predict(self.engine.module, batch)

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """See `Denoisers`."""
        adapter = adapter_parameters(self.engine.module, who)
        return {self._names[key]: parameter for key, parameter in adapter.items()}


class FullDenoisers:
    """The policy's UNet and a frozen copy for the reference and each average."""

    def __init__(
        self,
        unet: nn.Module,
        config: RunConfig,
        averages: Sequence[str],
        world_size: int,
        zero_options: Mapping[str, Any],
    ) -> None:
        unet.requires_grad_(False)
        frozen = {who: copy.deepcopy(unet) for who in (REFERENCE, *averages)}
        unet.requires_grad_(True)
        self.engine = PolicyEngine(unet, config.train, world_size, zero_options)
        dtype = next(self.engine.module.parameters()).dtype
        device = next(self.engine.module.parameters()).device
        self._frozen = {
            who: shard_frozen(module.to(device, dtype), config.train, zero_options) for who, module in frozen.items()
        }

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """See `Denoisers`."""
        with torch.no_grad():
            return _predict(self.engine.module if who == POLICY else self._frozen[who], batch)

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """See `Denoisers`."""
        return dict(self._frozen[who].named_parameters())


def _predict(module: nn.Module, batch: MicroBatch) -> Tensor:
    prediction: Tensor = module(batch.xt, batch.t, batch.embeddings, return_dict=False)[0]
    return prediction
