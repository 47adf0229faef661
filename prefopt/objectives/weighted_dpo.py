"""DPO with given weights, soft labels and margins per pair: for voting, filtering and re-labelling baselines.

    loss = -weight [label log sigma(k z - margin) + (1 - label) log sigma(margin - k z)]

Source: prefopt. It differs from `dpo` in the three given numbers; with weight 1, label 1 and margin 0 it is `dpo`.
A label of 1/2 is a tie and holds the logit at the margin; a weight of 0 takes the pair out of the gradient, but it
still counts in the mean over pairs.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import WeightedDpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def weighted_dpo(errors: PairErrors, params: WeightedDpoParams) -> ObjectiveResult:
    """Weighted cross-entropy of 0.5 beta z - margin with the label, per pair. The given numbers carry no gradient.

    Raises ValueError if the reference errors, or a value named in `params.use`, are missing.
    """
    logit = 0.5 * params.beta * errors.gap()

    def given(name: str, neutral: float) -> Tensor:
        return errors.require(name) if name in params.use else torch.full_like(logit, neutral)

    weight, label, margin = given("weight", 1.0), given("label", 1.0), given("margin", 0.0)
    shifted = logit - margin
    loss = -weight * (label * logsigmoid(shifted) + (1.0 - label) * logsigmoid(-shifted))
    metrics = pair_metrics(errors, logit) | {"weight": weight, "label": label, "margin": margin}
    return ObjectiveResult(loss, metrics)


WEIGHTED_DPO = Objective(
    "weighted_dpo", WeightedDpoParams, weighted_dpo, needs=frozenset({"reference", "weight", "label", "margin"})
)
