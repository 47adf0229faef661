"""Weights W(u) that fall as the minority metric u [B] rises (Adaptive-DPO, arXiv 2503.16921, public code).

Defaults of the public code: factor kw = 10, intercept c = 1. Linear and quadratic give 1 at u = 0; sqrt and sigmoid
give 1 / (1 + c), that is 1/2, and thus scale the loss of undisputed pairs too.
"""

from collections.abc import Callable

from torch import Tensor

WeightFunction = Callable[[Tensor, float, float], Tensor]
"""(u [B] >= 0, factor kw, intercept c) to W [B]."""


def linear(u: Tensor, factor: float = 10.0, intercept: float = 1.0) -> Tensor:
    """1 / (kw u + c)."""
    return 1.0 / (factor * u + intercept)


def quadratic(u: Tensor, factor: float = 10.0, intercept: float = 1.0) -> Tensor:
    """1 / (kw u^2 + c)."""
    return 1.0 / (factor * u.square() + intercept)


def sqrt(u: Tensor, factor: float = 10.0, intercept: float = 1.0) -> Tensor:
    """1 / (exp(kw sqrt(u)) + c)."""
    return 1.0 / ((factor * u.sqrt()).exp() + intercept)


def sigmoid(u: Tensor, factor: float = 10.0, intercept: float = 1.0) -> Tensor:
    """1 / (exp(kw u) + c)."""
    return 1.0 / ((factor * u).exp() + intercept)


WEIGHTS: dict[str, WeightFunction] = {
    "linear": linear,
    "quadratic": quadratic,
    "sqrt": sqrt,
    "sigmoid": sigmoid,
}
