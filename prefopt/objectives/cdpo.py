"""Conservative DPO: the label is taken as right with probability 1 - epsilon.

    loss = -(1 - epsilon) log sigma(k z) - epsilon log sigma(-k z)

The formula is Adaptive-DPO's public code's, where beta is half of the canonical one; the epsilon of its published flip
experiments is unconfirmed. It differs from `dpo` in the
second term: the minimum lies at sigma(k z) = 1 - epsilon, so the gap stops growing.
"""

from torch.nn.functional import logsigmoid

from prefopt.config.objective import CdpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def cdpo(errors: PairErrors, params: CdpoParams) -> ObjectiveResult:
    """Cross-entropy of 0.5 beta z with the label 1 - epsilon, per pair.

    Raises ValueError if the reference errors are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    loss = -(1.0 - params.epsilon) * logsigmoid(logit) - params.epsilon * logsigmoid(-logit)
    return ObjectiveResult(loss, pair_metrics(errors, logit))


CDPO = Objective("cdpo", CdpoParams, cdpo)
