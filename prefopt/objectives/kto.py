"""Diffusion-KTO (arXiv 2404.04465): each image is judged alone, against a reference point.

    x    = k (g - z0),   g = m_reference - m_policy of the image
    z0   = max(0, mean of g over all images of the global batch), without gradient
    loss = lambda (1 - U(y x)),   y = +1 for a winner, -1 for a loser

U is sigma (the paper's Kahneman-Tversky utility), log sigma (loss-averse) or -log sigma(-x) (risk-seeking, without
lower bound); the public code's two other risk-seeking forms put y elsewhere and are left out. A pair's loss is the
mean of its two images'. The formula is the public code's, whose beta_kto is k; the paper's settings are unconfirmed.
It differs from `dpo` in that winner and loser are not compared with each other, only with z0.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import KtoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics

GAIN = "gain"


def gain(errors: PairErrors, params: KtoParams) -> Tensor:
    """Mean of g over the pair's two images, detached float64 [B]."""
    policy = errors.require("policy_w").double() + errors.require("policy_l").double()
    return 0.5 * (errors.require("reference_w").double() + errors.require("reference_l").double() - policy)


def kto(errors: PairErrors, params: KtoParams) -> ObjectiveResult:
    """Mean of both images' lambda (1 - U(y x)), per pair. Without `means["gain"]`, z0 is 0.

    Raises ValueError if the reference errors are missing, or the mean is not finite.
    """
    k, z0 = 0.5 * params.beta, max(0.0, errors.mean(GAIN, neutral=0.0))
    wins = k * (errors.require("reference_w") - errors.policy_w - z0)
    loses = -k * (errors.require("reference_l") - errors.policy_l - z0)
    loss = 0.5 * (
        params.weight_w * (1.0 - _utility(wins, params.utility))
        + params.weight_l * (1.0 - _utility(loses, params.utility))
    )
    metrics = pair_metrics(errors, k * errors.gap()) | {"reference_point": torch.full_like(loss, z0).detach()}
    return ObjectiveResult(loss, metrics)


def _utility(x: Tensor, name: str) -> Tensor:
    if name == "sigmoid":
        return x.sigmoid()
    return logsigmoid(x) if name == "loss_averse" else -logsigmoid(-x)


KTO = Objective("kto", KtoParams, kto, means={GAIN: gain})
