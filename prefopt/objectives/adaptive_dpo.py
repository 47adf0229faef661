"""Adaptive-DPO (arXiv 2503.16921): DPO with a weight and a margin set by the minority metric u.

    loss = -W log sigma(0.5 beta z - G)

The formula is the public code's; there beta_dpo is half of the canonical beta. It differs from `dpo` in W and G.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.minority.margins import MARGINS, MarginScale, margin
from prefopt.minority.weights import WEIGHTS
from prefopt.objectives.base import Objective, ObjectiveParams, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


class AdaptiveDpoParams(ObjectiveParams):
    """Parameters of `adaptive_dpo`."""

    beta: Annotated[float, Field(gt=0.0)] = 2000.0
    """Canonical units: logit = 0.5 * beta * z. 2000 is the public run's beta_dpo = 1000."""
    weight: Literal["linear", "quadratic", "sqrt", "sigmoid"] = "linear"
    """How W falls with u."""
    weight_factor: Annotated[float, Field(gt=0.0)] = 10.0
    """kw: how steeply W falls."""
    weight_intercept: Annotated[float, Field(gt=0.0)] = 1.0
    """c: linear and quadratic weights give 1 / c at u = 0."""
    margin: Literal["none", "linear", "quadratic"] = "quadratic"
    """Power of u in G; `none` is G = 0."""
    margin_scale: MarginScale = "published"
    """`published`: the public code's scale, numerically inert. `logit`: -u^p + 0.5 beta mean(z_0)."""


def adaptive_dpo(errors: PairErrors, params: AdaptiveDpoParams) -> ObjectiveResult:
    """-W log sigma(0.5 beta z - G), per pair. W and G carry no gradient.

    Raises ValueError if the reference errors, u or (with a margin) margin_mean are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    u = errors.require("u")
    weight = WEIGHTS[params.weight](u, params.weight_factor, params.weight_intercept)
    shift = _margin(errors, u, params)
    metrics = pair_metrics(errors, logit) | {"u": u, "weight": weight, "margin": shift}
    return ObjectiveResult(-weight * logsigmoid(logit - shift), metrics)


def _margin(errors: PairErrors, u_B: Tensor, params: AdaptiveDpoParams) -> Tensor:
    if params.margin == "none":
        return torch.zeros_like(u_B)
    mean_z0 = errors.require("margin_mean")
    return margin(u_B, mean_z0, 0.5 * params.beta, MARGINS[params.margin], params.margin_scale)


ADAPTIVE_DPO = Objective("adaptive_dpo", AdaptiveDpoParams, adaptive_dpo, needs_u=True)
