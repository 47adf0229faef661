"""The minority metric u (Adaptive-DPO, arXiv 2503.16921, public code). Shape key: M annotators, B pairs."""

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST = 1e100
"""Logits are clamped here, far beyond any that changes u, so that their squares stay finite."""


class MinorityMetric(NamedTuple):
    """Three values per pair, each [B]; u = confidence * stability."""

    confidence: Tensor
    """The annotators' mean confidence that the label is WRONG: |1 - pbar|, pbar the mean of sigma(a), in [0, 1]."""
    stability: Tensor
    """How far the annotators differ: min(std of their logits, 1), in [0, 1]. The paper's name; 0 is most stable."""
    u: Tensor
    """Near 0: keep the label; near 1: the label is probably a minority's. 1 is reached by rounding alone."""


def minority_metric(a_MB: Tensor) -> MinorityMetric:
    """Metric of scaled annotator logits a [M, B] (rho * z / RMS), positive where an annotator agrees with the label.

    The std is the unbiased one over annotators, of logits and not of probabilities. Results are float32, or float64
    for float64 logits, and carry no gradient; finite logits never give NaN. The metric of the opposite label is
    minority_metric(-a), and its u is stability - u. Raises ValueError for fewer than two annotators or another shape.
    """
    if a_MB.dim() != 2:
        raise ValueError(f"annotator logits must have shape [M, B], got {list(a_MB.shape)}")
    if a_MB.shape[0] < 2:
        raise ValueError(f"the minority metric needs at least two annotators, got {a_MB.shape[0]}")
    wide = a_MB.detach().to(torch.float64).clamp(-_LARGEST, _LARGEST)
    confidence = torch.sigmoid(-wide).mean(dim=0)
    stability = (wide - wide[0]).std(dim=0, correction=1).clamp(max=1.0)
    result = torch.promote_types(a_MB.dtype, torch.float32)
    return MinorityMetric(confidence.to(result), stability.to(result), (confidence * stability).to(result))


def crowd_margin(votes_w_B: Tensor, votes_l_B: Tensor) -> Tensor:
    """Several human votes on a pair as ONE annotator: log((n_w + 1/2) / (n_l + 1/2)), float64 [B]. Source: prefopt."""
    return torch.log((votes_w_B.to(torch.float64) + 0.5) / (votes_l_B.to(torch.float64) + 0.5))
