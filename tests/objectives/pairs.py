"""Batches of pairs for the tests of objectives."""

from collections.abc import Iterable
from typing import Any

import torch

from prefopt.objectives import OBJECTIVES, ObjectiveResult, PairErrors

COLUMNS = (
    "policy_w",
    "policy_l",
    "reference_w",
    "reference_l",
    "alpha",
    "u",
    "weight",
    "label",
    "margin",
)
"""Rows of a table of pairs, all with values in [0, 1]."""
MARGIN_MEAN = 0.001


def random_table(size: int, seed: int = 0) -> torch.Tensor:
    """float64 [9, size]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(COLUMNS), size, generator=generator, dtype=torch.float64)


def close_table(size: int, seed: int = 0) -> torch.Tensor:
    """float64 [9, size] with gaps near 1e-3, as in training: no objective is saturated."""
    table = random_table(size, seed)
    table[:2] = table[2:4] + 2e-3 * (table[:2] - 0.5)
    return table


def make(table: torch.Tensor, **changes: Any) -> PairErrors:
    """The pairs of a table, with every side input."""
    given = dict(zip(COLUMNS, table, strict=True)) | {"margin_mean": torch.tensor(MARGIN_MEAN, dtype=torch.float64)}
    return PairErrors(**(given | changes))


def global_means(name: str, parts: Iterable[PairErrors], params: Any) -> dict[str, float]:
    """What a trainer supplies: the means over all pairs of all parts."""
    parts = list(parts)
    size = sum(part.policy_w.numel() for part in parts)
    return {
        key: float(sum(function(part, params).sum() for part in parts) / size)
        for key, function in OBJECTIVES[name].means.items()
    }


def evaluate(name: str, errors: PairErrors, **params: Any) -> ObjectiveResult:
    return OBJECTIVES[name](errors, OBJECTIVES[name].Params(**params))


def from_gap(z: torch.Tensor, **side: Any) -> PairErrors:
    """Errors whose gap is z: the loser's policy error holds it all, so that the gradient by it is the slope in z."""
    zero = torch.zeros_like(z).detach()
    return PairErrors(zero, z, zero, zero, **side)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
