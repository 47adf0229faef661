"""MaPO (arXiv 2406.06424): the winner's error and a ranking term, without a reference.

    loss   = m(w) - b log sigma(T (phi(m(w)) - phi(m(l))))
    phi(m) = s m / (exp(s m) - 1)

m is the policy's error, b = 0.1, s = 0.5, T = 1000. The formula is the public code's, which gives 0/0 at m = 0 and
inf/inf gradients at large m; here phi(0) = 1. phi falls with m, by -0.246 near m = 0.1, so the ranking term acts
like k = 246 on m(l) - m(w) (derived). It differs from `dpo` in having no reference: nothing holds the policy near
the start but the winner's own error.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import MapoParams
from prefopt.diffusion.schedule import wide_dtype
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics

_SMALL = 1e-4
_LARGE = 500.0


def phi(error_B: Tensor, scale: float) -> Tensor:
    """s m / (exp(s m) - 1) of errors m >= 0, float64 [B]; 1 at m = 0 and, to float64's eyes, 0 beyond s m = 500."""
    x = (scale * error_B.to(torch.float64)).clamp(max=_LARGE)
    series = 1.0 - x / 2.0 + x.square() / 12.0
    near = x < _SMALL
    safe = torch.where(near, 1.0, x)
    return torch.where(near, series, safe / torch.expm1(safe))


def mapo(errors: PairErrors, params: MapoParams) -> ObjectiveResult:
    """The winner's error plus the ranking term, per pair. Reference errors, where given, are logged alone."""
    wide = wide_dtype(errors.policy_w.dtype)
    gap = phi(errors.policy_w, params.scale) - phi(errors.policy_l, params.scale)
    logit = (params.timesteps * gap).to(wide)
    loss = errors.policy_w.to(wide) - params.ranking * logsigmoid(logit)
    return ObjectiveResult(loss, pair_metrics(errors, logit))


MAPO = Objective("mapo", MapoParams, mapo, needs=frozenset())
