"""DMPO (arXiv 2507.07510): reverse Kullback-Leibler divergence from the policy's pair distribution to the target.

    loss = p log(p / (1 - epsilon)) + (1 - p) log((1 - p) / epsilon),   p = sigma(k z)

UNCONFIRMED: the paper's own loss is not known. This is a reconstruction that fits its abstract and reviews, not the
paper's formula. It differs from `dpo` in the direction of the divergence: it is 0 at p = 1 - epsilon, and its slope
vanishes where p nears 0 or 1, so that pairs held to be badly wrong are let go (mode-seeking).
"""

import math

from torch.nn.functional import logsigmoid

from prefopt.config.objective import DmpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def dmpo(errors: PairErrors, params: DmpoParams) -> ObjectiveResult:
    """Divergence of (p, 1 - p) from (1 - epsilon, epsilon), per pair.

    Raises ValueError if the reference errors are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    wins = logit.sigmoid() * (logsigmoid(logit) - math.log1p(-params.epsilon))
    loses = (-logit).sigmoid() * (logsigmoid(-logit) - math.log(params.epsilon))
    return ObjectiveResult(wins + loses, pair_metrics(errors, logit))


DMPO = Objective("dmpo", DmpoParams, dmpo)
