"""Exponential moving averages of the policy that serve as annotators (Adaptive-DPO, arXiv 2503.16921)."""

import torch
from torch import Tensor


def ema_decay(n: int, decay: float, ramp: bool = True) -> float:
    """Decay of update n, counted from 0. Update 0 copies (decay 0).

    With the ramp, min(decay, (1 + n) / (10 + n)), as the public runs had: 0.9999 is reached at n = 89,990 only.
    Without it, decay. Raises ValueError for n < 0 or decay outside [0, 1].
    """
    if n < 0 or not 0.0 <= decay <= 1.0:
        raise ValueError(f"need n >= 0 and decay in [0, 1], got {n} and {decay}")
    if n == 0:
        return 0.0
    return min(decay, (1 + n) / (10 + n)) if ramp else decay


def ema_update(shadow: Tensor, value: Tensor, decay: float) -> Tensor:
    """decay * shadow + (1 - decay) * value in the shadow's dtype (float32: half precision loses small updates).

    Decay 0 gives value exactly; an equal value leaves the shadow exactly as it is.
    """
    return torch.lerp(shadow, value.detach().to(shadow.dtype), 1.0 - decay)
