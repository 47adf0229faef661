"""Negative preference guidance (Diffusion-NPO, arXiv 2505.11245): a model tuned on reversed pairs steers away.

The negative model is trained with `dpo` on labels 1 - label; it takes the unconditional branch of classifier-free
guidance. Both formulas: public code, the mixing with two factors second-hand.
"""

from collections.abc import Mapping

from torch import Tensor

from prefopt.diffusion.schedule import wide_dtype

Weights = Mapping[str, Tensor]


def negative_guidance(positive: Tensor, negative: Tensor, w: float) -> Tensor:
    """eps = (w + 1) eps_pos(c) - w eps_neg(c'), in the predictions' dtype.

    w is guidance_scale - 1 of the usual pipelines: w = 0 is the positive model alone, and one model in both places,
    with the empty prompt for c', gives plain classifier-free guidance. Raises ValueError if the shapes differ.
    """
    if positive.shape != negative.shape:
        raise ValueError(f"predictions must share one shape, got {list(positive.shape)} and {list(negative.shape)}")
    wide = wide_dtype(positive.dtype)
    return ((w + 1.0) * positive.to(wide) - w * negative.to(wide)).to(positive.dtype)


def weight_offset(tuned: Weights, base: Weights) -> dict[str, Tensor]:
    """tuned - base by name, float32 or wider. Raises ValueError, naming them, if names or shapes differ."""
    _check(tuned, base, "tuned")
    if missing := sorted(base.keys() - tuned.keys()):
        raise ValueError(f"tuned lacks the weights {', '.join(missing[:3])}: give all weights of the same model")
    return {name: value.to(wide_dtype(value.dtype)) - base[name].to(value.device) for name, value in tuned.items()}


def mix_weights(theta: Weights, eta: Weights, delta: Weights, a: float, b: float) -> dict[str, Tensor]:
    """theta_neg = theta + a eta + b delta, by name, in theta's dtypes and summed in float32 or wider.

    theta is the base, eta the positive model's offset from it and delta the negative one's. Weights that an offset
    does not name stay as they are. The public code's merge_weight is 1 - a, with b = 1.
    Raises ValueError for an offset of a weight that theta does not have, or of another shape.
    """
    _check(eta, theta, "eta")
    _check(delta, theta, "delta")
    mixed = {}
    for name, value in theta.items():
        total = value.to(wide_dtype(value.dtype))
        for factor, offset in ((a, eta), (b, delta)):
            if name in offset:
                total = total + factor * offset[name].to(total.device, total.dtype)
        mixed[name] = total.to(value.dtype)
    return mixed


def _check(offset: Weights, theta: Weights, what: str) -> None:
    for name, value in offset.items():
        if name not in theta:
            raise ValueError(f"{what} names the weight {name}, which the base does not have: take one model's weights")
        if value.shape != theta[name].shape:
            raise ValueError(
                f"{what}'s weight {name} has shape {list(value.shape)}, the base's {list(theta[name].shape)}"
            )
