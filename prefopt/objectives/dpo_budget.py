"""DPO with budget-controlled regularisation: the winner may become less likely only so far (after arXiv 2411.05875).

    loss = -log sigma(k z) + penalty max(0, m_policy(w) - m_reference(w) - budget)

UNCONFIRMED: the paper is about language models and its formula is not known here; this analogue follows its abstract
(derived). It differs from `dpo` in the second term, which answers the report that winner and loser can both lose
likelihood under `dpo`. penalty and budget are in units of the error, so a penalty of k weighs the winner's drift as
the logit does.
"""

from torch.nn.functional import logsigmoid, relu

from prefopt.config.objective import DpoBudgetParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics


def dpo_budget(errors: PairErrors, params: DpoBudgetParams) -> ObjectiveResult:
    """-log sigma(0.5 beta z) plus the winner's drift beyond the budget, per pair.

    Raises ValueError if the reference errors are missing.
    """
    logit = 0.5 * params.beta * errors.gap()
    excess = relu(errors.policy_w - errors.require("reference_w") - params.budget)
    metrics = pair_metrics(errors, logit) | {"excess": excess.detach()}
    return ObjectiveResult(-logsigmoid(logit) + params.penalty * excess, metrics)


DPO_BUDGET = Objective("dpo_budget", DpoBudgetParams, dpo_budget)
