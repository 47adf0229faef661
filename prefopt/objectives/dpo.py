"""Diffusion-DPO (arXiv 2311.12908)."""

from torch.nn.functional import logsigmoid

from prefopt.config.objective import DpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def dpo(errors: PairErrors, params: DpoParams) -> ObjectiveResult:
    """-log sigma(0.5 beta z), per pair. The derivation's timestep factor is absorbed into beta, as in public code.

    The launchers' beta is 5000; the paper's 2000 for SD1.5 is unconfirmed.

    Raises ValueError if the reference errors are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    return ObjectiveResult(-logsigmoid(logit), pair_metrics(errors, logit))


DPO = Objective("dpo", DpoParams, dpo)
