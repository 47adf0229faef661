"""Parameters of the training objectives. They live here so that a config can be checked without torch.

beta is in canonical units everywhere: logit = k z with k = 0.5 * beta.
"""

import difflib
import typing
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from prefopt.config.base import Branch, Count, Positive, Share

NonNegative = Annotated[float, Field(ge=0.0)]
FlipRate = Annotated[float, Field(ge=0.0, lt=0.5)]


class EmaConfig(Branch):
    """The slow and fast exponential averages of the policy that serve as annotators (arXiv 2503.16921)."""

    slow: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    fast: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    ramp: bool = True
    """Cap the decay of update n at (1 + n) / (10 + n), as the public runs did."""


class MinorityConfig(Branch):
    """Where the minority metric u comes from during training."""

    source: Literal["online", "offline", "product"] = "online"
    """`online`: policy and its two averages; `offline`: the score stage's panel; `product` of both."""
    normalise: Literal["running", "global", "reference"] = "running"
    rho: Positive = 3.75
    """Scale of the annotator logits in RMS units."""
    rho_l2: Positive = 15.0
    """Scale under `normalise: reference`, in units of the micro-batch L2 norm."""
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    warmup: Annotated[int, Field(ge=0)] = 10
    """Optimizer steps with u = 0 at the start, under `normalise: running`."""
    ema: EmaConfig = EmaConfig()


class SftParams(Branch):
    """Supervised fine-tuning on the winners."""

    name: Literal["sft"] = "sft"
    """Chooses this objective."""


class DpoParams(Branch):
    """Diffusion-DPO (arXiv 2311.12908)."""

    name: Literal["dpo"] = "dpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units: logit = 0.5 * beta * z."""


class IpoParams(Branch):
    """Squared loss on the gap (IPO)."""

    name: Literal["ipo"] = "ipo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units. Under `form: published` it serves the logged logit alone."""
    form: Literal["published", "logit"] = "published"
    """`published`: on the raw gap z, as the public code; `logit`: on k z."""
    tau: Positive | None = None
    """The target is 1 / (2 tau). By default 100 (public code) under `published`, 0.5 under `logit` (target 1)."""


class CdpoParams(Branch):
    """Conservative DPO: labels smoothed by epsilon."""

    name: Literal["cdpo"] = "cdpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units."""
    epsilon: FlipRate = 0.1
    """Expected share of flipped labels. 0 is `dpo`, and the default of public code."""


class RdpoParams(Branch):
    """Robust DPO: unbiased for the clean loss under flips at rate epsilon."""

    name: Literal["rdpo"] = "rdpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units."""
    epsilon: FlipRate = 0.1
    """Expected share of flipped labels. 0 is `dpo`, and the default of public code."""


class AdaptiveParams(Branch):
    """What the objectives with the minority metric u share."""

    name: str
    """Chooses the objective."""
    beta: Positive = 2000.0
    """Canonical units: 2000 is the public run's beta_dpo = 1000."""
    weight: Literal["linear", "quadratic", "sqrt", "sigmoid"] = "linear"
    """How the weight W falls with u."""
    weight_factor: Positive = 10.0
    """kw in W = 1 / (kw u + c)."""
    weight_intercept: Positive = 1.0
    """c in W = 1 / (kw u + c)."""
    margin: Literal["none", "linear", "quadratic"] = "quadratic"
    """Power of u in the margin G; `none` is G = 0."""
    margin_scale: Literal["published", "logit"] = "published"
    """`published` is the public code's scale, which is numerically inert; `logit` is -u^2 + k mean(z_0)."""
    u: MinorityConfig = MinorityConfig()
    """Where u comes from."""


class AdaptiveDpoParams(AdaptiveParams):
    """Adaptive-DPO (arXiv 2503.16921)."""

    name: Literal["adaptive_dpo"] = "adaptive_dpo"
    """Chooses this objective."""


class AdaptiveIpoParams(AdaptiveParams):
    """Adaptive-DPO's IPO variant (arXiv 2503.16921)."""

    name: Literal["adaptive_ipo"] = "adaptive_ipo"
    """Chooses this objective."""
    form: Literal["published", "logit"] = "logit"
    """`logit`: on k z, the margin subtracted; `published`: on the raw gap z, the margin added as in the public code."""
    tau: Positive | None = None
    """The target is 1 / (2 tau). By default 100 (public code) under `published`, 0.5 under `logit` (target 1)."""


class SmpoParams(Branch):
    """SmPO-Diffusion (arXiv 2506.02698)."""

    name: Literal["smpo"] = "smpo"
    """Chooses this objective."""
    beta: Positive = 2000.0
    """Canonical units; published: 2000 for SD1.5, 5000 for SDXL."""
    gamma: Positive = 10.0
    """Strength of the soft preference; 10 goes with the published normalisation of alpha."""
    relabel: Literal["reward", "human_floor", "blend"] = "reward"
    """Who decides the winner: the reward (as published), the human with alpha floored at 1/2, or a blend."""
    blend: Share = 0.5
    """lambda of `relabel: blend`: the human label's share in alpha."""


class KtoParams(Branch):
    """Diffusion-KTO (arXiv 2404.04465)."""

    name: Literal["kto"] = "kto"
    """Chooses this objective."""
    beta: Positive = 2000.0
    """Canonical units: 2000 is the public script's beta_kto = 1000."""
    utility: Literal["sigmoid", "loss_averse", "risk_seeking"] = "sigmoid"
    """sigma(x), log sigma(x) or -log sigma(-x)."""
    weight_w: NonNegative = 1.0
    """lambda of the winners."""
    weight_l: NonNegative = 1.0
    """lambda of the losers."""


class MapoParams(Branch):
    """MaPO (arXiv 2406.06424)."""

    name: Literal["mapo"] = "mapo"
    """Chooses this objective."""
    ranking: NonNegative = 0.1
    """b: the ranking term's share."""
    scale: Positive = 0.5
    """s in phi(m) = s m / (exp(s m) - 1)."""
    timesteps: Count = 1000
    """T: factor of the ranking term's logit, the schedule's number of levels."""


class InpoParams(Branch):
    """DDIM-InPO (arXiv 2503.18454)."""

    name: Literal["inpo"] = "inpo"
    """Chooses this objective."""
    beta: Positive = 2000.0
    """Canonical units; published: 2000 for SD1.5, 5000 for SDXL."""


class DmpoParams(Branch):
    """DMPO (arXiv 2507.07510), as reconstructed: unconfirmed."""

    name: Literal["dmpo"] = "dmpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units. The paper's settings are not known."""
    epsilon: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-3
    """The target distribution over the pair is (1 - epsilon, epsilon)."""


class DpoBudgetParams(Branch):
    """DPO with budget-controlled regularisation of the winner's drift (after arXiv 2411.05875): unconfirmed."""

    name: Literal["dpo_budget"] = "dpo_budget"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units."""
    penalty: NonNegative = 2500.0
    """Slope beyond the budget, by the error. The default is k of the default beta (prefopt's choice)."""
    budget: NonNegative = 0.0
    """How much larger the winner's error may be than the reference's before it costs anything."""


class DroDpoParams(Branch):
    """DPO under DoRA's calibrated, distributionally robust re-weighting (after arXiv 2504.05831)."""

    name: Literal["dro_dpo"] = "dro_dpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units."""
    temperature: Positive = 1.0
    """lambda: the smaller, the more the hardest pairs count."""
    calibration: Literal["none", "weight"] = "none"
    """The ratio h: 1 for every pair, or the pairs' given weights."""


class WeightedDpoParams(Branch):
    """DPO with given weights, soft labels and margins, for voting, filtering and re-labelling baselines."""

    name: Literal["weighted_dpo"] = "weighted_dpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units."""
    use: tuple[Literal["weight", "label", "margin"], ...] = ("label",)
    """Which given values take part; each of them must be there. Without: weight 1, label 1, margin 0."""


_Objectives = (
    SftParams
    | DpoParams
    | IpoParams
    | CdpoParams
    | RdpoParams
    | AdaptiveDpoParams
    | AdaptiveIpoParams
    | SmpoParams
    | KtoParams
    | MapoParams
    | InpoParams
    | DmpoParams
    | DpoBudgetParams
    | DroDpoParams
    | WeightedDpoParams
)

OBJECTIVE_NAMES: tuple[str, ...] = tuple(params.model_fields["name"].default for params in typing.get_args(_Objectives))
"""Every objective's name, in the order of the documentation."""


def check_objective_name(name: object) -> None:
    """Raise ValueError, naming the nearest objective, for a name that is none."""
    if name not in OBJECTIVE_NAMES:
        near = difflib.get_close_matches(str(name).lower(), OBJECTIVE_NAMES, n=1, cutoff=0.0)[0]
        known = ", ".join(OBJECTIVE_NAMES)
        raise ValueError(f"unknown objective name {name!r}: did you mean {near!r}? There are {known}")


def _check_tree(tree: Any) -> Any:
    if isinstance(tree, dict):
        if "name" not in tree:
            raise ValueError(f"an objective needs a name, one of {', '.join(OBJECTIVE_NAMES)}")
        check_objective_name(tree["name"])
    return tree


ObjectiveConfig = Annotated[_Objectives, Field(discriminator="name"), BeforeValidator(_check_tree)]
