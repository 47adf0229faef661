"""Exponential averages of a model's weights, kept in float32 (Adaptive-DPO, arXiv 2503.16921)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prefopt.minority.ema import ema_decay, ema_update


class EmaShadow:
    """One average of a list of tensors. The first update copies; later ones decay as `ema_decay` says."""

    def __init__(self, values: Sequence[Tensor], decay: float, ramp: bool) -> None:
        self.tensors = [value.detach().to(torch.float32).clone() for value in values]
        self.decay = decay
        self.ramp = ramp
        self.updates = 0

    def update(self, values: Sequence[Tensor]) -> None:
        """Take in the weights after an optimizer step, in the order of construction."""
        decay = ema_decay(self.updates, self.decay, self.ramp)
        for shadow, value in zip(self.tensors, values, strict=True):
            shadow.copy_(ema_update(shadow, value, decay))
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name, for safetensors."""
        state = {f"{index:05d}": tensor for index, tensor in enumerate(self.tensors)}
        return {**state, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`. Raises ValueError if it belongs to another list of tensors."""
        names = [f"{index:05d}" for index in range(len(self.tensors))]
        if sorted([*names, "updates"]) != sorted(state):
            raise ValueError(f"the saved average holds {len(state) - 1} tensors, this one {len(names)}")
        for name, tensor in zip(names, self.tensors, strict=True):
            if state[name].shape != tensor.shape:
                raise ValueError(f"the saved average's tensor {name} has shape {list(state[name].shape)}")
            tensor.copy_(state[name])
        self.updates = int(state["updates"])
