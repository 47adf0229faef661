"""Diffusion-DPO (arXiv 2311.12908)."""

from typing import Annotated

from pydantic import Field
from torch.nn.functional import logsigmoid

from prefopt.objectives.base import Objective, ObjectiveParams, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


class DpoParams(ObjectiveParams):
    """Parameters of `dpo`."""

    beta: Annotated[float, Field(gt=0.0)] = 5000.0
    """Canonical units, as in the Diffusion-DPO launchers: logit = 0.5 * beta * z."""


def dpo(errors: PairErrors, params: DpoParams) -> ObjectiveResult:
    """-log sigma(0.5 beta z), per pair. The derivation's timestep factor is absorbed into beta, as in public code.

    Raises ValueError if the reference errors are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    return ObjectiveResult(-logsigmoid(logit), pair_metrics(errors, logit))


DPO = Objective("dpo", DpoParams, dpo)
