"""Putting annotators' error gaps z [M, B] on a common scale: a = rho * z / RMS(z), one RMS per annotator.

Which RMS: `RunningScale` (of completed optimizer steps), `global_scale` (of the current global batch) or
`reference_scale` (Adaptive-DPO's public per-micro-batch arithmetic). Scaled logits are float64, so that no finite
float32 gap overflows. An annotator without a scale makes all logits 0, hence u = 0: the others alone would look like
disagreement. All three hold an RMS below `RMS_FLOOR` for no scale, so that rounding noise is never blown up into
logits of size rho. Shape key: M annotators (0 is the policy), B pairs.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

RMS_FLOOR = 1e-7
"""Below this RMS there is nothing but rounding noise (a cached reference leaves about 3e-8 before training moves)."""


def scale_by_rms(z_MB: Tensor, rms_M: Tensor, rho: float, floor: float = 0.0) -> Tensor:
    """rho * z / rms, float64 [M, B], without gradient; zeros if any RMS is 0, below the floor or NaN."""
    wide, rms = z_MB.detach().to(torch.float64), rms_M.to(z_MB.device, torch.float64)
    usable = ((rms > 0) & (rms >= floor)).all()
    return torch.where(usable, wide / torch.where(usable, rms, 1.0).unsqueeze(1) * rho, 0.0)


def global_scale(z_MB: Tensor, sum_squares_M: Tensor, count: int, rho: float) -> Tensor:
    """Logits in units of the global batch's RMS, from its exact sums; the same for every split of that batch.

    float64 [M, B]. The margin's mean is the sum of z0 over the count. Raises ValueError for count < 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return scale_by_rms(z_MB, (sum_squares_M.to(torch.float64) / count).sqrt(), rho, RMS_FLOOR)


def reference_scale(z_MB: Tensor, rho_l2: float) -> Tensor:
    """rho_l2 * z / ||z||_2, the norm per annotator over the micro-batch given; float64 [M, B].

    Published arithmetic (public code, rho 15): it depends on the micro-batch. rho_l2 = rho * sqrt(B). Where the public
    code divides 0 by 0, or noise by noise, all logits are 0.
    """
    norm = z_MB.detach().to(torch.float64).square().sum(dim=1).sqrt()
    return scale_by_rms(z_MB, norm, rho_l2, RMS_FLOOR * math.sqrt(z_MB.shape[1]))


class RunningScale:
    """Exponential means of z^2 per annotator and of the policy's z over completed optimizer steps. Source: prefopt.

    The means are bias-corrected (divided by 1 - decay^steps). Step n reads only what `update` got up to step n - 1.
    A skipped optimizer step must not call `update`.
    """

    def __init__(self, num_annotators: int, decay: float = 0.9, warmup: int = 10) -> None:
        """Raises ValueError for num_annotators < 1, decay outside [0, 1) or a negative warmup."""
        if num_annotators < 1 or not 0.0 <= decay < 1.0 or warmup < 0:
            raise ValueError(
                f"need num_annotators >= 1, 0 <= decay < 1 and warmup >= 0, got {num_annotators}, {decay} and {warmup}"
            )
        self.decay = decay
        self.warmup = warmup
        self.steps = 0
        self._squares = [0.0] * num_annotators
        self._z0 = 0.0

    @property
    def rms(self) -> list[float]:
        """RMS of z per annotator; zeros before the first update."""
        return [math.sqrt(square / self._weight) for square in self._squares]

    @property
    def ready(self) -> bool:
        """False (so u = 0) for the first `warmup` steps and while any annotator's RMS is below 1e-7."""
        return self.steps >= self.warmup and min(self.rms) >= RMS_FLOOR

    @property
    def margin_mean(self) -> float:
        """Mean of the policy's z for the margin; 0 until ready."""
        return self._z0 / self._weight if self.ready else 0.0

    @property
    def _weight(self) -> float:
        return 1.0 - self.decay**self.steps if self.steps else 1.0

    def scale(self, z_MB: Tensor, rho: float) -> Tensor:
        """rho * z / RMS, float64 [M, B]; zeros until ready. Raises ValueError for another number of annotators."""
        if z_MB.shape[0] != len(self._squares):
            raise ValueError(f"expected {len(self._squares)} annotators, got {z_MB.shape[0]}")
        if not self.ready:
            return torch.zeros_like(z_MB, dtype=torch.float64)
        return scale_by_rms(z_MB, torch.tensor(self.rms, dtype=torch.float64), rho)

    def update(self, sum_squares_M: Tensor | Sequence[float], sum_z0: Tensor | float, count: int) -> None:
        """Take in one completed optimizer step: sums over all ranks and micro-batches, and their number of pairs.

        Raises ValueError, leaving the state as it was, for another number of annotators, count < 1 or non-finite sums.
        """
        squares = [float(value) for value in sum_squares_M]
        if len(squares) != len(self._squares):
            raise ValueError(f"expected {len(self._squares)} annotators, got {len(squares)}")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not all(math.isfinite(value) for value in [*squares, float(sum_z0)]):
            raise ValueError(
                "sum_squares and sum_z0 must be finite: a step with broken errors is skipped, not taken in"
            )
        keep, new = self.decay, (1.0 - self.decay) / count
        self._squares = [keep * old + new * value for old, value in zip(self._squares, squares, strict=True)]
        self._z0 = keep * self._z0 + new * float(sum_z0)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists that survive JSON exactly."""
        return {"decay": self.decay, "steps": self.steps, "squares": list(self._squares), "z0": self._z0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`. Raises ValueError for another number of annotators or another decay."""
        if len(state["squares"]) != len(self._squares) or state["decay"] != self.decay:
            raise ValueError(
                f"the saved scale has {len(state['squares'])} annotators and decay {state['decay']}, "
                f"this one {len(self._squares)} and {self.decay}"
            )
        self.steps = int(state["steps"])
        self._squares = [float(value) for value in state["squares"]]
        self._z0 = float(state["z0"])
