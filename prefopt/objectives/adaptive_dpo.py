"""Adaptive-DPO (arXiv 2503.16921): DPO with a weight and a margin set by the minority metric u.

    loss = -W log sigma(0.5 beta z - G)

The formula is the public code's; there beta_dpo is half of the canonical beta. Sign and scale of G in the paper are
unconfirmed. It differs from `dpo` in W and G.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import AdaptiveDpoParams, AdaptiveParams
from prefopt.minority.margins import MARGINS, margin
from prefopt.minority.weights import WEIGHTS
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def adaptive_dpo(errors: PairErrors, params: AdaptiveDpoParams) -> ObjectiveResult:
    """-W log sigma(0.5 beta z - G), per pair. W and G carry no gradient.

    Raises ValueError if the reference errors, u or (with a margin) margin_mean are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    u = errors.require("u")
    weight = WEIGHTS[params.weight](u, params.weight_factor, params.weight_intercept)
    shift = adaptive_margin(errors, u, params)
    metrics = pair_metrics(errors, logit) | {"u": u, "weight": weight, "margin": shift}
    return ObjectiveResult(-weight * logsigmoid(logit - shift), metrics)


def adaptive_margin(errors: PairErrors, u_B: Tensor, params: AdaptiveParams) -> Tensor:
    """G [B] in the scale that the params choose. Raises ValueError if it needs margin_mean and that is missing."""
    if params.margin == "none":
        return torch.zeros_like(u_B)
    mean_z0 = errors.require("margin_mean")
    return margin(u_B, mean_z0, 0.5 * params.beta, MARGINS[params.margin], params.margin_scale)


ADAPTIVE_DPO = Objective(
    "adaptive_dpo", AdaptiveDpoParams, adaptive_dpo, needs=frozenset({"reference", "u", "margin_mean"})
)
