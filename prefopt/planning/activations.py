"""Bytes that a training step keeps for its backward pass, counted by running the UNet on tensors without memory.

Autograd itself says what it saves: each tensor once, weights left out. Fake tensors stand for a device with a fused
attention kernel, which keeps queries, keys, values and output but never the attention matrix, as GPUs do.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from prefopt.config.root import ModelConfig
from prefopt.config.train import TrainConfig
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.families import predict
from prefopt.models.size import empty_unet
from prefopt.planning.flops import unet_inputs


@dataclass(frozen=True)
class Activations:
    """Bytes for one image in float32."""

    kept: int
    """From the forward until the backward pass has used them."""
    recomputed: int
    """With gradient checkpointing: of the block that keeps most when it is computed again; else 0."""

    @property
    def total(self) -> int:
        """At the backward pass's peak."""
        return self.kept + self.recomputed


def count_activations(model: ModelConfig, train: TrainConfig, height: int, width: int, tokens: int) -> Activations:
    """What the policy's forward keeps for one image, from its latent's sides. InputError if the model is not there."""
    unet = empty_unet(model)
    if train.method == "lora":
        add_adapters(unet, train.lora, (POLICY,), 0)
    with FakeTensorMode():
        weights = {
            name: torch.zeros(parameter.shape, requires_grad=parameter.requires_grad)
            for name, parameter in unet.named_parameters()
        }
        given = unet_inputs(unet, height, width, tokens)
        return measure_activations(unet, weights, given, train.gradient_checkpointing)


def measure_activations(
    unet: Any, weights: dict[str, Tensor], given: tuple[Any, ...], checkpointing: bool
) -> Activations:
    """What a forward of `unet` with these weights keeps, on whatever device the weights are."""
    ours = {_storage(weight) for weight in weights.values()}
    outside, inputs, largest = _Kept(), _Kept(), 0

    def again(block: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal largest
        inputs.add(argument for argument in arguments if isinstance(argument, Tensor))
        inside = _Kept()
        with inside.watching():
            result = block(*arguments)
        largest = max(largest, inside.nbytes(ours))
        return result

    if checkpointing:
        unet.enable_gradient_checkpointing(again)
    with outside.watching():
        predict(lambda *positional, **named: functional_call(unet, weights, positional, named), *given)
    outside.add(inputs.tensors)
    return Activations(outside.nbytes(ours), largest)


class _Kept:
    """Tensors by the memory they lie in."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def add(self, tensors: Iterable[Tensor]) -> None:
        self.tensors += tensors

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note whatever autograd saves in the block."""
        with saved_tensors_hooks(self._saved, lambda tensor: tensor):
            yield

    def nbytes(self, without: set[int]) -> int:
        sizes = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in self.tensors}
        return sum(size for storage, size in sizes.items() if storage not in without)

    def _saved(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        return tensor


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
