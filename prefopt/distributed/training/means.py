"""Means over the global batch that an objective wants, known before the batch is seen: from the steps before."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_PREFIX = "mean of "


class RunningMeans:
    """Exponential means of some figures over completed optimizer steps, bias-corrected, in float64.

    What a step reads depends on the steps before it alone, so that no split of its batch changes anything.
    """

    def __init__(self, names: Sequence[str], decay: float = 0.9) -> None:
        self._decay, self._steps = decay, 0
        self._sums = dict.fromkeys(names, 0.0)

    def values(self) -> dict[str, float]:
        """The means by name; empty before the first step."""
        if not self._steps:
            return {}
        weight = 1.0 - self._decay**self._steps
        return {name: value / weight for name, value in self._sums.items()}

    def update(self, figures: Mapping[str, Tensor]) -> None:
        """Take in a completed step: the figures [B] of its global batch, under `mean_columns`' names."""
        keep = self._decay
        for name in self._sums:
            self._sums[name] = keep * self._sums[name] + (1.0 - keep) * float(figures[_PREFIX + name].double().mean())
        self._steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers that survive JSON exactly."""
        return {"steps": self._steps, "sums": dict(self._sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._steps, self._sums = int(state["steps"]), {name: float(value) for name, value in state["sums"].items()}


def mean_columns(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The figures [B] of a micro-batch, named so that they stay apart from the other figures of its pairs."""
    return {_PREFIX + name: torch.as_tensor(value).detach().double() for name, value in found.items()}


def without_means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other figures."""
    return {name: value for name, value in values.items() if not name.startswith(_PREFIX)}
