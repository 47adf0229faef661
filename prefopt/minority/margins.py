"""The adaptive margin G of log sigma(k z - G) (Adaptive-DPO, arXiv 2503.16921).

With p = 1 (linear) or 2 (quadratic):

    published   G = -u^p / k + mean(z_0)      the public code; numerically inert beside k z of order 0.1 to 1
    logit       G = -u^p + k mean(z_0)        prefopt: the same margin on the scale of k z

k = 0.5 * beta in canonical units, which is the public code's own `beta_dpo`. mean(z_0) is the policy's mean gap.
"""

from typing import Literal, get_args

from torch import Tensor

MarginScale = Literal["published", "logit"]

MARGINS: dict[str, int] = {"linear": 1, "quadratic": 2}
"""Power p of u."""


def margin(u_B: Tensor, mean_z0: Tensor | float, k: float, power: int, scale: MarginScale) -> Tensor:
    """G [B] from u [B], the scalar mean of z_0 and k. Raises ValueError for an unknown scale."""
    if scale not in get_args(MarginScale):
        raise ValueError(f"margin scale must be one of {get_args(MarginScale)}, got {scale!r}")
    if scale == "published":
        return mean_z0 - u_B**power / k
    return k * mean_z0 - u_B**power
