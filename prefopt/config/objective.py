"""Parameters of the training objectives. They live here so that a config can be checked without torch."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Positive, Share


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


class DpoParams(Branch):
    """Diffusion-DPO (arXiv 2311.12908)."""

    name: Literal["dpo"] = "dpo"
    """Chooses this objective."""
    beta: Positive = 5000.0
    """Canonical units: logit = 0.5 * beta * z."""


class AdaptiveDpoParams(Branch):
    """Adaptive-DPO (arXiv 2503.16921)."""

    name: Literal["adaptive_dpo"] = "adaptive_dpo"
    """Chooses this objective."""
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


ObjectiveConfig = Annotated[DpoParams | AdaptiveDpoParams | SmpoParams, Field(discriminator="name")]
