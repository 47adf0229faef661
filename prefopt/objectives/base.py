"""What every objective takes and gives. Shape key: B pairs, M annotators."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

import torch
from torch import Tensor

from prefopt.config.base import Branch
from prefopt.diffusion.errors import error_gap


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Denoising errors of a batch of pairs (means over C, H, W) and side inputs. Float tensors [B] unless said.

    `w` is the winner's place, `l` the loser's. Raises ValueError, naming the field, for a wrong shape.
    """

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor | None = None
    reference_l: Tensor | None = None
    alpha: Tensor | None = None
    """Soft preference for w, in [0, 1] (smpo)."""
    u: Tensor | None = None
    """Minority metric of the label, in [0, 1] (adaptive objectives)."""
    weight: Tensor | None = None
    margin: Tensor | None = None
    margin_mean: Tensor | float | None = None
    """Scalar: mean of the policy's z, from the running state (adaptive margin)."""
    label: Tensor | None = None
    """The votes' probability that w wins; 0.5 is a tie."""
    timestep: Tensor | None = None
    annotator_logits: Tensor | None = None
    """[M, B], for logs."""

    def __post_init__(self) -> None:
        size = self.policy_w.shape[-1:]
        for name in (entry.name for entry in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                continue
            want = {"margin_mean": 0, "annotator_logits": 2}.get(name, 1)
            if value.dim() != want or (want and value.shape[-1:] != size):
                shape = {0: "[]", 1: "[B]", 2: "[M, B]"}[want]
                raise ValueError(f"{name} must have shape {shape} with B = {list(size)}, got {list(value.shape)}")

    def require(self, name: str) -> Tensor:
        """The field as a detached tensor in float32 or wider. Raises ValueError if it is missing."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"this objective needs PairErrors.{name}, which is missing")
        wide = torch.promote_types(self.policy_w.dtype, torch.float32)
        return torch.as_tensor(value, dtype=wide, device=self.policy_w.device).detach()

    def gap(self) -> Tensor:
        """z = (reference_w - reference_l) - (policy_w - policy_l), [B]; the gradient flows to the policy only."""
        return error_gap(self.require("reference_w"), self.require("reference_l"), self.policy_w, self.policy_l)


@dataclass(frozen=True)
class ObjectiveResult:
    """The loss of each pair and what to log about it."""

    loss: Tensor
    """[B], with gradient. The training loss is the mean over all pairs of the global batch."""
    metrics: dict[str, float | Tensor] = field(default_factory=dict)
    """Detached [B] tensors, to be averaged over pairs, or floats."""


ParamsT = TypeVar("ParamsT", bound=Branch)


@dataclass(frozen=True)
class Objective(Generic[ParamsT]):
    """A named objective: call it with (errors, params)."""

    name: str
    Params: type[ParamsT]
    function: Callable[[PairErrors, ParamsT], ObjectiveResult]

    def __call__(self, errors: PairErrors, params: ParamsT) -> ObjectiveResult:
        """Raises TypeError for another objective's Params, ValueError for missing side inputs."""
        if not isinstance(params, self.Params):
            raise TypeError(f"objective {self.name} needs {self.Params.__name__}, got {type(params).__name__}")
        return self.function(errors, params)
