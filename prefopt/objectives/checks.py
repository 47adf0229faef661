"""Whether the inputs of an objective are what it expects. Every error names the field and what to give."""

from collections.abc import Mapping

import torch
from torch import Tensor

_ANY = float("inf")

RANGES: dict[str, tuple[float, float]] = {
    "reference_w": (-_ANY, _ANY),
    "reference_l": (-_ANY, _ANY),
    "alpha": (0.0, 1.0),
    "u": (0.0, 1.0),
    "label": (0.0, 1.0),
    "weight": (0.0, _ANY),
    "margin": (-_ANY, _ANY),
    "margin_mean": (-_ANY, _ANY),
}
"""Side inputs that are checked, with the closed range of their values. All must be finite."""

_FIXES = {
    "policy_l": "give the policy's error of each pair's loser",
    "reference_w": "give the frozen reference's error of each pair's winner at the same latent, timestep and target",
    "reference_l": "give the frozen reference's error of each pair's loser at the same latent, timestep and target",
    "alpha": "give each pair's probability that w is better, from reward_preference and relabel",
    "u": "give each pair's minority metric, from minority_metric",
    "label": "give each pair's share of votes for w",
    "weight": "give each pair a factor of at least 0",
    "margin": "give each pair a number in units of the logit",
    "margin_mean": "give one number: the mean of the policy's z, from RunningScale.margin_mean or the global batch",
    "timestep": "give each pair's timestep",
    "annotator_logits": "give a row of scaled logits for each annotator",
}


def check_shape(name: str, value: Tensor, num_pairs: int) -> None:
    """Raise ValueError unless the value is [B], or [] for margin_mean and [M, B] for annotator_logits."""
    dim, shape = {"margin_mean": (0, "[]"), "annotator_logits": (2, "[M, B]")}.get(name, (1, "[B]"))
    if value.dim() != dim or (dim and value.shape[-1] != num_pairs):
        raise ValueError(f"{name} must have shape {shape} with B = {num_pairs}, got {list(value.shape)}: {_fix(name)}")


def missing(name: str) -> ValueError:
    """The error for a side input that an objective needs and did not get."""
    return ValueError(f"this objective needs PairErrors.{name}, which is missing: {_fix(name)}")


def check_values(values: Mapping[str, Tensor], sound_B: Tensor) -> None:
    """Raise ValueError for a side input, [B] or [], with a value that is not finite or outside its range.

    `sound` is bool: pairs whose policy errors are finite. Elsewhere a value that is not finite passes, as a scalar
    does beside any such pair, for a diverged policy makes what is computed from it so too, and the loss shows it. All
    values are looked at in one go, so that a device is waited for once.
    """
    if not values:
        return
    right_KB = torch.stack([_right(name, value, sound_B) for name, value in values.items()])
    if bool(right_KB.all()):
        return
    field, pair = (int(index) for index in (~right_KB).nonzero()[0])
    name, value = list(values.items())[field]
    given = float(value[pair] if value.dim() else value)
    place = f" at pair {pair}" if value.dim() else ""
    raise ValueError(f"{name} must {_range(*RANGES[name])}, got {given}{place}: {_fix(name)}")


def _right(name: str, value: Tensor, sound_B: Tensor) -> Tensor:
    low, high = RANGES[name]
    value = value.detach().to(sound_B.device)
    finite, sound = torch.isfinite(value), sound_B if value.dim() else sound_B.all()
    return ((finite & (value >= low) & (value <= high)) | (~sound & ~finite)).expand_as(sound_B)


def _range(low: float, high: float) -> str:
    if low == -_ANY:
        return "be finite"
    return "be finite and at least 0" if high == _ANY else f"lie in [{low:g}, {high:g}]"


def _fix(name: str) -> str:
    return _FIXES.get(name, "give one number for each pair")
