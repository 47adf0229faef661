"""SmPO-Diffusion (arXiv 2506.02698): DPO smoothed by a soft preference alpha, meant for inverted noise.

The formula is the public code's. It differs from `dpo` in the factor gamma (2 alpha - 1) on the logit; the errors
should be measured at inverted latents with the target of `prefopt.diffusion.target_noise`.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefopt.config.objective import SmpoParams
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.metrics import pair_metrics

Relabel = Literal["reward", "human_floor", "blend"]


def reward_preference(score_w_B: Tensor, score_l_B: Tensor, low: float, high: float) -> Tensor:
    """p_reward [B]: softmax over the pair of scores scaled by (score - low) / (high - low), for the place w.

    Raises ValueError unless low < high.
    """
    if not low < high:
        raise ValueError(f"need low < high, got {low} and {high}")
    return torch.sigmoid((score_w_B - score_l_B) / (high - low))


def relabel(rule: Relabel, p_reward_B: Tensor, label_B: Tensor, blend: float = 0.5) -> Tensor:
    """alpha [B] for the place w from the reward's p_reward [B] and the votes' label [B] = P(w wins). Source: prefopt.

    reward: p_reward, as published; the label plays no part. human_floor: the side of the label stays, and where the
    reward disagrees with it, or the label is a tie, alpha is 0.5 (no gradient). blend: (1 - blend) p_reward +
    blend label. Each rule gives 1 - alpha for the swapped pair. Raises ValueError for an unknown rule or a blend
    outside [0, 1], and for a probability that is NaN or outside [0, 1].
    """
    if rule not in get_args(Relabel):
        raise ValueError(f"relabel must be one of {get_args(Relabel)}, got {rule!r}")
    if not 0.0 <= blend <= 1.0:
        raise ValueError(f"blend must lie in [0, 1], got {blend}")
    for name, value in {"alpha": p_reward_B, "label": label_B}.items():
        if not bool(((value >= 0.0) & (value <= 1.0)).all()):
            raise ValueError(f"{name} must lie in [0, 1] and be no NaN: see what the score stage wrote for these pairs")
    if rule == "reward":
        return p_reward_B
    if rule == "blend":
        return torch.lerp(p_reward_B, label_B.to(p_reward_B.dtype), blend)
    agree = (p_reward_B - 0.5) * (label_B - 0.5) > 0
    return torch.where(agree, p_reward_B, 0.5)


def smpo(errors: PairErrors, params: SmpoParams) -> ObjectiveResult:
    """-log sigma(gamma (2 alpha - 1) 0.5 beta z), per pair; alpha is each pair's own and carries no gradient.

    Raises ValueError if the reference errors or alpha are missing.
    """
    alpha = errors.require("alpha")
    logit = 0.5 * params.beta * errors.gap()
    factor = params.gamma * (2.0 * alpha - 1.0)
    metrics = pair_metrics(errors, logit) | {"alpha": alpha, "factor": factor}
    return ObjectiveResult(-logsigmoid(factor * logit), metrics)


SMPO = Objective("smpo", SmpoParams, smpo, needs=frozenset({"reference", "alpha"}))
