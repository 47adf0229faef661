"""Robust DPO: unbiased for the loss of clean labels when labels flip at rate epsilon.

    loss = [-(1 - epsilon) log sigma(k z) + epsilon log sigma(-k z)] / (1 - 2 epsilon)

The formula is Adaptive-DPO's public code's, where beta is half of the canonical one; the epsilon of its published flip
experiments is unconfirmed. It differs from `dpo` in the second term. For epsilon > 0 it has no lower bound: the slope
in k z tends to -epsilon / (1 - 2 epsilon) and never vanishes, so clip gradients and watch the gap.
"""

from torch.nn.functional import logsigmoid

from prefopt.config.objective import RdpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def rdpo(errors: PairErrors, params: RdpoParams) -> ObjectiveResult:
    """The de-biased loss of 0.5 beta z, per pair. Raises ValueError if the reference errors are missing."""
    epsilon = params.epsilon
    logit = 0.5 * params.beta * errors.gap()
    loss = (-(1.0 - epsilon) * logsigmoid(logit) + epsilon * logsigmoid(-logit)) / (1.0 - 2.0 * epsilon)
    return ObjectiveResult(loss, pair_metrics(errors, logit))


RDPO = Objective("rdpo", RdpoParams, rdpo)
