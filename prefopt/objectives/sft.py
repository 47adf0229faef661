"""Supervised fine-tuning on winners: no reference, and the losers play no part.

    loss = m_policy(w)

The formula is the public Diffusion-DPO code's (option sft). It differs from `dpo` in everything but the errors it
reads. Ties must be left out of the data, for a tie has no winner.
"""

from prefopt.config.objective import SftParams
from prefopt.diffusion.schedule import wide_dtype
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import accuracy, error_metrics


def sft(errors: PairErrors, params: SftParams) -> ObjectiveResult:
    """policy_w, per pair. Without a reference, accuracy asks whether the winner's error is the smaller one."""
    metrics = error_metrics(errors)
    metrics["accuracy"] = accuracy(errors.require("policy_l") - errors.require("policy_w"))
    return ObjectiveResult(errors.policy_w.to(wide_dtype(errors.policy_w.dtype)), metrics)


SFT = Objective("sft", SftParams, sft, needs=frozenset())
