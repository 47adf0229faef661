"""DDIM-InPO (arXiv 2503.18454): the loss of `dpo`, meant for inverted latents.

    loss = -log sigma(k z)

The formula is the public code's. It differs from `dpo` in where the errors come from: x_t is the image's own DDIM
inversion and the target the noise that leads there (`prefopt.diffusion.target_noise`). The loss cannot tell.
"""

from torch.nn.functional import logsigmoid

from prefopt.config.objective import InpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def inpo(errors: PairErrors, params: InpoParams) -> ObjectiveResult:
    """-log sigma(0.5 beta z), per pair. Raises ValueError if the reference errors are missing."""
    logit = 0.5 * params.beta * errors.gap()
    return ObjectiveResult(-logsigmoid(logit), pair_metrics(errors, logit))


INPO = Objective("inpo", InpoParams, inpo)
