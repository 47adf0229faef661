"""Every objective once more, for one pair, in plain floats: written from the formulas, not from the package.

Cross-entropies are softplus functions here, margins and weights are spelled out, winners and losers are loops.
"""

import math
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """One pair's numbers, and what holds for the whole batch."""

    policy_w: float
    policy_l: float
    reference_w: float
    reference_l: float
    alpha: float
    u: float
    weight: float
    label: float
    margin: float
    margin_mean: float
    means: dict[str, float]


def softplus(x: float) -> float:
    """log(1 + e^x)."""
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -30 else math.exp(x) / (1 + math.exp(x))


def gap(pair: Pair) -> float:
    policy_prefers_w = pair.policy_l - pair.policy_w
    reference_prefers_w = pair.reference_l - pair.reference_w
    return policy_prefers_w - reference_prefers_w


def logit(pair: Pair, p: Any) -> float:
    return p.beta / 2 * gap(pair)


def sft(pair: Pair, p: Any) -> float:
    return pair.policy_w


def dpo(pair: Pair, p: Any) -> float:
    return softplus(-logit(pair, p))


def ipo(pair: Pair, p: Any) -> float:
    if p.form == "published":
        return (gap(pair) - 0.5 / (p.tau or 100)) ** 2
    return (logit(pair, p) - 0.5 / (p.tau or 0.5)) ** 2


def cdpo(pair: Pair, p: Any) -> float:
    x = logit(pair, p)
    return softplus(-x) + p.epsilon * x


def rdpo(pair: Pair, p: Any) -> float:
    x = logit(pair, p)
    return softplus(-x) - p.epsilon / (1 - 2 * p.epsilon) * x


def trust(u: float, p: Any) -> float:
    kw, c = p.weight_factor, p.weight_intercept
    denominators = {
        "linear": kw * u + c,
        "quadratic": kw * u**2 + c,
        "sqrt": math.exp(kw * math.sqrt(u)) + c,
        "sigmoid": math.exp(kw * u) + c,
    }
    return 1 / denominators[p.weight]


def shift(pair: Pair, p: Any) -> float:
    if p.margin == "none":
        return 0.0
    doubt = pair.u ** {"linear": 1, "quadratic": 2}[p.margin]
    published = pair.margin_mean - doubt / (p.beta / 2)
    return published if p.margin_scale == "published" else p.beta / 2 * published


def adaptive_dpo(pair: Pair, p: Any) -> float:
    return trust(pair.u, p) * softplus(shift(pair, p) - logit(pair, p))


def adaptive_ipo(pair: Pair, p: Any) -> float:
    if p.form == "published":
        distance = gap(pair) + shift(pair, p) / (p.beta / 2) - 0.5 / (p.tau or 100)
    else:
        distance = logit(pair, p) - shift(pair, p) - 0.5 / (p.tau or 0.5)
    return trust(pair.u, p) * distance**2


def smpo(pair: Pair, p: Any) -> float:
    return softplus(p.gamma * (1 - 2 * pair.alpha) * logit(pair, p))


def kto(pair: Pair, p: Any) -> float:
    anchor = max(0.0, pair.means.get("gain", 0.0))
    images = [(1, pair.policy_w, pair.reference_w, p.weight_w), (-1, pair.policy_l, pair.reference_l, p.weight_l)]
    total = 0.0
    for y, policy, reference, factor in images:
        x = y * p.beta / 2 * (reference - policy - anchor)
        utility = {"sigmoid": logistic(x), "loss_averse": -softplus(-x), "risk_seeking": softplus(x)}[p.utility]
        total += factor * (1 - utility)
    return total / 2


def mapo(pair: Pair, p: Any) -> float:
    odds = [p.scale * m / (math.exp(p.scale * m) - 1) for m in (pair.policy_w, pair.policy_l)]
    return pair.policy_w + p.ranking * softplus(p.timesteps * (odds[1] - odds[0]))


def inpo(pair: Pair, p: Any) -> float:
    return softplus(-logit(pair, p))


def dmpo(pair: Pair, p: Any) -> float:
    policy = [logistic(logit(pair, p)), logistic(-logit(pair, p))]
    wanted = [1 - p.epsilon, p.epsilon]
    return sum(have * math.log(have / want) for have, want in zip(policy, wanted, strict=True))


def dpo_budget(pair: Pair, p: Any) -> float:
    lost = pair.policy_w - pair.reference_w
    fine = p.penalty * (lost - p.budget) if lost > p.budget else 0.0
    return softplus(-logit(pair, p)) + fine


def dro_weight(pair: Pair, p: Any) -> float:
    h = pair.weight if p.calibration == "weight" else 1.0
    if "tilt" not in pair.means:
        return h
    return h * math.exp(h * softplus(-logit(pair, p)) / p.temperature) / pair.means["tilt"]


def dro_dpo(pair: Pair, p: Any) -> float:
    return dro_weight(pair, p) * softplus(-logit(pair, p))


def weighted_dpo(pair: Pair, p: Any) -> float:
    weight = pair.weight if "weight" in p.use else 1.0
    label = pair.label if "label" in p.use else 1.0
    x = logit(pair, p) - (pair.margin if "margin" in p.use else 0.0)
    return weight * (softplus(x) - label * x)


SCALAR = {
    function.__name__: function
    for function in (
        sft,
        dpo,
        ipo,
        cdpo,
        rdpo,
        adaptive_dpo,
        adaptive_ipo,
        smpo,
        kto,
        mapo,
        inpo,
        dmpo,
        dpo_budget,
        dro_dpo,
        weighted_dpo,
    )
}
