"""DPO under DoRA's calibrated, distributionally robust re-weighting (after arXiv 2504.05831).

    L = lambda log E[exp(h l / lambda)],   l = -log sigma(k z)

h is the pair's calibrating ratio, E the mean over the global batch. The formula is second-hand and about language
models; its use on denoising errors is derived. L is no mean over pairs, but its gradient is:

    loss = sg[W] l,   W = h exp(h l / lambda) / E[exp(h l / lambda)]

The mean of these losses over the global batch has L's gradient, however the batch is split (derived, tested). It
differs from `dpo` in W: hard pairs count more, flipped ones among them unless h is small there, and W tends to h as
lambda grows.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import DroDpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics

TILT = "tilt"
_FURTHEST = 20.0
"""Exponents above log E are capped here. No pair of a batch below exp(20) pairs is further above its E."""
_LARGEST = 600.0
"""Exponents are capped here, where exp still fits in float64."""


def tilt(errors: PairErrors, params: DroDpoParams) -> Tensor:
    """exp(h l / lambda), detached float64 [B]."""
    return _exponent(errors, params).exp()


def dro_dpo(errors: PairErrors, params: DroDpoParams) -> ObjectiveResult:
    """W times the loss of `dpo`, per pair; W carries no gradient. Without `means["tilt"]`, W is h.

    Raises ValueError if the reference errors, or under `calibration: weight` the weights, are missing, or if
    the mean is not finite or below 1, which no mean of the tilt can be.
    """
    logit = 0.5 * params.beta * errors.gap()
    weight = _ratio(errors, params, logit)
    if errors.means and TILT in errors.means:
        mean = errors.mean(TILT, neutral=1.0)
        if mean < 1.0 - 1e-9:
            raise ValueError(f"means['{TILT}'] must be at least 1, got {mean}: give the global batch's mean of `tilt`")
        relative = (_exponent(errors, params) - math.log(mean)).clamp(max=_FURTHEST).exp()
        weight = weight * relative.to(weight.dtype)
    return ObjectiveResult(-weight * logsigmoid(logit), pair_metrics(errors, logit) | {"weight": weight})


def _exponent(errors: PairErrors, params: DroDpoParams) -> Tensor:
    logit = (0.5 * params.beta * errors.gap()).detach().to(torch.float64)
    loss = -logsigmoid(logit)
    return (_ratio(errors, params, loss) * loss / params.temperature).clamp(max=_LARGEST)


def _ratio(errors: PairErrors, params: DroDpoParams, like: Tensor) -> Tensor:
    return errors.require("weight") if params.calibration == "weight" else torch.ones_like(like).detach()


DRO_DPO = Objective("dro_dpo", DroDpoParams, dro_dpo, needs=frozenset({"reference", "weight"}), means={TILT: tilt})
