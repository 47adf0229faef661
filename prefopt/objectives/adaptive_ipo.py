"""Adaptive-DPO's IPO variant (arXiv 2503.16921): IPO with a weight and a margin set by the minority metric u.

    published   loss = W (z + G / k - 1 / (2 tau))^2     the public code, where k is its beta_dpo
    logit       loss = W (k z - G - 1 / (2 tau))^2       prefopt

The public code subtracts the margin G in its log-sigmoid loss and adds the same expression in this one. `published`
keeps that sign; `logit` subtracts, as `adaptive_dpo` does, so that a larger G asks for a larger gap in both. It
differs from `ipo` in W and G.
"""

from prefopt.config.objective import AdaptiveIpoParams
from prefopt.minority.weights import WEIGHTS
from prefopt.objectives.adaptive_dpo import adaptive_margin
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.ipo import ipo_target
from prefopt.objectives.metrics import pair_metrics


def adaptive_ipo(errors: PairErrors, params: AdaptiveIpoParams) -> ObjectiveResult:
    """The weighted squared distance from the target, per pair. W and G carry no gradient.

    Raises ValueError if the reference errors, u or (with a margin) margin_mean are missing. The metric
    `margin` is what comes off the logit: -G under `published`.
    """
    z, u = errors.gap(), errors.require("u")
    k = 0.5 * params.beta
    weight = WEIGHTS[params.weight](u, params.weight_factor, params.weight_intercept)
    shift = adaptive_margin(errors, u, params)
    published = params.form == "published"
    distance = (z + shift / k if published else k * z - shift) - ipo_target(params.form, params.tau)
    metrics = pair_metrics(errors, k * z)
    metrics |= {"u": u, "weight": weight, "margin": -shift if published else shift}
    return ObjectiveResult(weight * distance.square(), metrics)


ADAPTIVE_IPO = Objective(
    "adaptive_ipo", AdaptiveIpoParams, adaptive_ipo, needs=frozenset({"reference", "u", "margin_mean"})
)
