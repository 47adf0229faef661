"""Drawing with a negative model: Diffusion-NPO (arXiv 2505.11245).

A model tuned on reversed pairs takes the unconditional branch of classifier-free guidance. Pipelines of diffusers ask
their UNet once for both branches, unconditional rows first, and mix: u + s (c - u) = s c - (s - 1) u, which is
`prefopt.diffusion.negative.negative_guidance` with w = s - 1.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prefopt.diffusion.negative import mix_weights, weight_offset
from prefopt.models.families import Pipeline

Weights = Mapping[str, Tensor]


class BranchedUnet(nn.Module):
    """Two UNets that look like one: the negative takes the first half of each batch, the positive the second."""

    def __init__(self, positive: nn.Module, negative: nn.Module) -> None:
        super().__init__()
        self.positive, self.negative = positive, negative

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.positive, name)

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **others: Any) -> Any:
        """As a UNet of diffusers is called under guidance: [2B, C, H, W] to [2B, C, H, W]."""
        rows = sample.shape[0]
        halves = []
        for unet, half in ((self.negative, slice(0, rows // 2)), (self.positive, slice(rows // 2, rows))):
            part = {name: _rows(value, half, rows) for name, value in others.items()}
            at = _rows(timestep, half, rows)
            halves.append(unet(sample[half], at, encoder_hidden_states=encoder_hidden_states[half], **part))
        if isinstance(halves[0], tuple):
            return (torch.cat([half[0] for half in halves]),)
        return type(halves[0])(sample=torch.cat([half.sample for half in halves]))


def with_negative(pipeline: Pipeline, negative: nn.Module, guidance: float) -> Pipeline:
    """A pipeline of the same parts whose unconditional branch is `negative`, for this guidance scale.

    Raises ValueError for a guidance of 1 or less, under which pipelines ask no unconditional branch.
    """
    if guidance <= 1.0:
        raise ValueError(f"a negative model needs guidance above 1, got {guidance:g}: else no such branch is asked")
    guided = copy.copy(pipeline)
    guided.unet = BranchedUnet(pipeline.unet, negative)
    return guided


def mixed_negative(
    base: nn.Module, positive: nn.Module, negative: nn.Module, *, positive_share: float, negative_share: float
) -> nn.Module:
    """The UNet theta + a (positive - theta) + b (negative - theta), theta being the base's, a and b the two shares.

    All three have whole weights, without adapters. Source: `prefopt.diffusion.negative.mix_weights`.
    """
    theta: Weights = base.state_dict()
    eta, delta = (weight_offset(unet.state_dict(), theta) for unet in (positive, negative))
    mixed = copy.deepcopy(base)
    mixed.load_state_dict(mix_weights(theta, eta, delta, positive_share, negative_share))
    return mixed.requires_grad_(False).eval()


def _rows(value: Any, half: slice, rows: int) -> Any:
    """That half of whatever has a row for each sample."""
    if isinstance(value, dict):
        return {name: _rows(cell, half, rows) for name, cell in value.items()}
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == rows:
        return value[half]
    return value
