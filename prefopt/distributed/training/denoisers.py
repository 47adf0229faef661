"""The models of a run: the policy that learns, the frozen reference, and the policy's slow and fast averages."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prefopt.config import RunConfig
from prefopt.distributed.memory import has_live_reference
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.engine import PolicyEngine, shard_frozen
from prefopt.models.adapters import FAST, POLICY, REFERENCE, SLOW, acting, adapter_parameters, add_adapters
from prefopt.models.families import predict
from prefopt.models.loading import MODEL_DTYPES, moved
from prefopt.models.sources import TrainingWeights
from prefopt.models.unets import load_adapter, load_unet, read_adapter, start_adapter

AVERAGES = (SLOW, FAST)


class Denoisers(Protocol):
    """What a training step needs of the models."""

    engine: PolicyEngine

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """Prediction [2B, C, H, W] of the policy, an average or the reference, without gradient."""

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """Working weights of an average, by the policy's parameter names."""


def build_denoisers(
    config: RunConfig,
    weights: TrainingWeights,
    averages: Sequence[str],
    device: torch.device,
    world_size: int,
    zero_options: Mapping[str, Any],
) -> Denoisers:
    """Load the models of a run. There is a reference where the objective has one and `reference` is live; else it must
    not be asked."""
    kind = LoraDenoisers if config.train.method == "lora" else FullDenoisers
    return kind(config, weights, averages, device, world_size, zero_options)


class LoraDenoisers:
    """One UNet with an adapter each for policy, slow and fast. With adapters off it is the reference.

    A reference that is itself an adapter on this UNet is one more adapter; any other is a UNet of its own.
    """

    def __init__(
        self,
        config: RunConfig,
        weights: TrainingWeights,
        averages: Sequence[str],
        device: torch.device,
        world_size: int,
        zero_options: Mapping[str, Any],
    ) -> None:
        train, below, reference = config.train, weights.init.below, weights.reference
        unet = load_unet(below, weights.base, MODEL_DTYPES[train.precision]).to(device)
        start = read_adapter(unet, weights.init) if weights.init.onto else None
        live = has_live_reference(train)
        self._acting: dict[str, str | None] = {who: who for who in (POLICY, *averages)}
        if live and reference.onto and reference.onto.digest == below.digest:
            load_adapter(unet, reference, REFERENCE)
            self._acting[REFERENCE] = REFERENCE
        elif live and reference.digest == below.digest:
            self._acting[REFERENCE] = None
        add_adapters(unet, train.lora, (POLICY, *averages), config.seed)
        if start:
            for name in (POLICY, *averages):
                start_adapter(unet, name, start, train.lora, "train.init_from")
        _prepare(unet, config)
        self.engine = PolicyEngine(unet, train, world_size, zero_options)
        self._names = dict(zip(adapter_parameters(unet, POLICY), self.engine.parameters, strict=True))
        self._apart: nn.Module | None = None
        if live and REFERENCE not in self._acting:
            apart = load_unet(reference, weights.base, MODEL_DTYPES[train.precision])
            self._apart = _frozen(apart, self.engine, config, zero_options)

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """See `Denoisers`."""
        if who == REFERENCE and self._apart is not None:
            with torch.no_grad():
                return predict(self._apart, batch.xt, batch.t, batch.conditioning)
        assert who in self._acting, f"there is no {who} in this run"
        with acting(self.engine.module, self._acting[who]):
            return predict(self.engine.module, batch.xt, batch.t, batch.conditioning)

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """See `Denoisers`."""
        adapter = adapter_parameters(self.engine.module, who)
        return {self._names[key]: parameter for key, parameter in adapter.items()}


class FullDenoisers:
    """The policy's UNet, a frozen one for the reference, and a frozen copy for each average.

    All are made in host memory. One after the other goes to the device, and is sharded before the next comes.
    """

    def __init__(
        self,
        config: RunConfig,
        weights: TrainingWeights,
        averages: Sequence[str],
        device: torch.device,
        world_size: int,
        zero_options: Mapping[str, Any],
    ) -> None:
        dtype = MODEL_DTYPES[config.train.precision]
        unet = load_unet(weights.init, weights.base, dtype)
        frozen = {who: copy.deepcopy(unet) for who in averages}
        if has_live_reference(config.train):
            alike = weights.reference.digest == weights.init.digest
            frozen[REFERENCE] = copy.deepcopy(unet) if alike else load_unet(weights.reference, weights.base, dtype)
        unet.to(device).requires_grad_(True)
        _prepare(unet, config)
        self.engine = PolicyEngine(unet, config.train, world_size, zero_options)
        self._frozen = {who: _frozen(module, self.engine, config, zero_options) for who, module in frozen.items()}

    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        """See `Denoisers`."""
        assert who == POLICY or who in self._frozen, f"there is no {who} in this run"
        module = self.engine.module if who == POLICY else self._frozen[who]
        with torch.no_grad():
            return predict(module, batch.xt, batch.t, batch.conditioning)

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        """See `Denoisers`."""
        return dict(self._frozen[who].named_parameters())


def _prepare(unet: Any, config: RunConfig) -> None:
    """Let the policy recompute its activations or run compiled. diffusers recomputes wherever gradients are taken, in
    eval mode too."""
    if config.train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if config.train.compile:
        unet.compile()


def _frozen(module: nn.Module, engine: PolicyEngine, config: RunConfig, zero_options: Mapping[str, Any]) -> nn.Module:
    policy = next(engine.module.parameters())
    return shard_frozen(moved(module, policy.device, policy.dtype), config.train, zero_options)
