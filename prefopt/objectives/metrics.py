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
    return {"accuracy": accuracy(logit), "logit": logit} | error_metrics(errors)


def error_metrics(errors: PairErrors) -> dict[str, float | Tensor]:
    """Detached [B] tensors: error_w, error_l and, given a reference, drift_w and drift_l."""
    w, loser = errors.require("policy_w"), errors.require("policy_l")
    metrics: dict[str, float | Tensor] = {"error_w": w, "error_l": loser}
    if errors.reference_w is not None and errors.reference_l is not None:
        metrics["drift_w"] = w - errors.require("reference_w")
        metrics["drift_l"] = loser - errors.require("reference_l")
    return metrics


def accuracy(logit_B: Tensor) -> Tensor:
    """1 where the logit is above 0, 0.5 where it is exactly 0, else 0."""
    return 0.5 * (torch.sign(logit_B) + 1.0)
