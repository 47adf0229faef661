"""The minority metric u of each pair while training: online from policy and averages, offline, or their product."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prefopt.config.objective import AdaptiveParams, MinorityConfig
from prefopt.minority.metric import minority_metric
from prefopt.minority.scale import RunningScale, global_scale, reference_scale


@dataclass(frozen=True)
class Judgement:
    """What the annotators make of a micro-batch."""

    u: Tensor
    """The u that the objective uses, float32 [B]."""
    online: Tensor | None
    """float32 [B]."""
    logits: Tensor | None
    """Scaled annotator logits, float64 [M, B]."""
    margin_mean: float
    """Mean of the policy's z for the margin."""


@dataclass(frozen=True)
class Window:
    """Exact sums over the global batch, under `normalise: global`."""

    squares: Tensor
    """float64 [M]."""
    z0: float
    pairs: int


class MinorityJudge:
    """Turns annotators' gaps z [M, B], the policy's first, into u. Holds the running scale."""

    def __init__(self, params: AdaptiveParams) -> None:
        self.config: MinorityConfig = params.u
        self.online = params.u.source != "offline"
        self._scale = RunningScale(3 if self.online else 1, params.u.decay, params.u.warmup)

    @property
    def needs_window(self) -> bool:
        """Whether the annotators must see the whole global batch before the first backward."""
        return self.config.normalise == "global"

    def judge(self, z_MB: Tensor, offline: Tensor | None, window: Window | None) -> Judgement:
        """u of a micro-batch; nothing in it carries a gradient."""
        scaled, mean = self._scaled(z_MB.detach(), window)
        online = minority_metric(scaled).u.to(torch.float32) if self.online else None
        return Judgement(self._combine(online, offline), online, scaled if self.online else None, mean)

    def update(self, window: Window) -> None:
        """Take in a completed optimizer step, never a skipped one."""
        self._scale.update(window.squares, window.z0, window.pairs)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers that survive JSON exactly."""
        return self._scale.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._scale.load_state_dict(state)

    def _scaled(self, z: Tensor, window: Window | None) -> tuple[Tensor, float]:
        if self.config.normalise == "running":
            return self._scale.scale(z, self.config.rho), self._scale.margin_mean
        if self.config.normalise == "reference":
            return reference_scale(z, self.config.rho_l2), float(z[0].double().mean())
        assert window is not None
        return global_scale(z, window.squares, window.pairs, self.config.rho), window.z0 / window.pairs

    def _combine(self, online: Tensor | None, offline: Tensor | None) -> Tensor:
        factors: Sequence[Tensor | None] = {
            "online": [online],
            "offline": [offline],
            "product": [online, offline],
        }[self.config.source]
        values = [factor for factor in factors if factor is not None]
        assert len(values) == len(factors), "the stage checks that the offline u exists where it is needed"
        return values[0] if len(values) == 1 else values[0] * values[1]
