"""IPO on denoising errors: the gap is regressed to a target instead of growing without end.

    published   loss = (z - 1 / (2 tau))^2        Adaptive-DPO's public code, tau 100 by default
    logit       loss = (k z - 1 / (2 tau))^2      the same on the scale of the logit (derived)

|z| is 1e-4 to 1e-3 in practice, so under `published` the target 0.005 is out of reach and the loss almost linear.
It differs from `dpo` in the squared loss. The script of a public training library reads a setting that it never
declares in this branch, so it cannot run there.
"""

from typing import Literal

from prefopt.config.objective import IpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics

Form = Literal["published", "logit"]

_TAU: dict[Form, float] = {"published": 100.0, "logit": 0.5}


def ipo_target(form: Form, tau: float | None) -> float:
    """1 / (2 tau); without tau, 0.005 for the raw gap and 1 for the logit."""
    return 1.0 / (2.0 * (_TAU[form] if tau is None else tau))


def ipo(errors: PairErrors, params: IpoParams) -> ObjectiveResult:
    """Squared distance of z, or of 0.5 beta z, from the target, per pair.

    Raises ValueError if the reference errors are missing.
    """
    z = errors.gap()
    logit = 0.5 * params.beta * z
    value = z if params.form == "published" else logit
    loss = (value - ipo_target(params.form, params.tau)).square()
    return ObjectiveResult(loss, pair_metrics(errors, logit))


IPO = Objective("ipo", IpoParams, ipo)
