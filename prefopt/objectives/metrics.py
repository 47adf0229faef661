"""Metrics that all pair objectives report."""

import torch
from torch import Tensor

from prefopt.objectives.base import PairErrors


def pair_metrics(errors: PairErrors, logit_B: Tensor) -> dict[str, float | Tensor]:
    """Detached [B] tensors: accuracy, logit, error_w, error_l and, given a reference, drift_w and drift_l.

    accuracy is 1 where the logit puts w first, 0.5 where it is exactly 0, else 0. logit is 0.5 * beta * z before any
    factor or margin. drift is the policy's error minus the reference's: above 0, the image became less likely.
    """
    logit = logit_B.detach()
    metrics: dict[str, float | Tensor] = {
        "accuracy": 0.5 * (torch.sign(logit) + 1.0),
        "logit": logit,
        "error_w": errors.require("policy_w"),
        "error_l": errors.require("policy_l"),
    }
    if errors.reference_w is not None and errors.reference_l is not None:
        metrics["drift_w"] = errors.require("policy_w") - errors.require("reference_w")
        metrics["drift_l"] = errors.require("policy_l") - errors.require("reference_l")
    return metrics
