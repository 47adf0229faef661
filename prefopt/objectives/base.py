"""What every objective takes and gives. Shape key: B pairs, M annotators.

Objectives on sampled chains fit in here: a row of the batch is then one denoising step of a pair. The log-ratio of a
Gaussian step with variance v over n entries is log p_policy / p_reference = n (m_reference - m_policy) / (2 v) with m
the mean squared distance of the step taken from each model's mean, so the four errors and a beta that holds n / (2 v)
carry it. Log-ratios that come as such would be two more optional fields beside the errors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

import torch
from torch import Tensor

from prefopt.config.base import Branch
from prefopt.diffusion.errors import error_gap
from prefopt.diffusion.schedule import wide_dtype
from prefopt.objectives.checks import RANGES, check_shape, check_values, missing


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Denoising errors of a batch of pairs (means over C, H, W) and side inputs. Float tensors [B] unless said.

    `w` is the winner's place, `l` the loser's. Raises ValueError, naming the field, for a wrong shape and for a side
    input that is NaN, infinite or outside its range, unless policy errors are not finite themselves.
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
    """A factor of at least 0 (weighted_dpo, and dro_dpo as its calibrating ratio)."""
    margin: Tensor | None = None
    """What is taken off the logit (weighted_dpo)."""
    margin_mean: Tensor | float | None = None
    """Scalar: mean of the policy's z, from the running state (adaptive margin)."""
    label: Tensor | None = None
    """The votes' probability that w wins, in [0, 1]; 0.5 is a tie (weighted_dpo)."""
    timestep: Tensor | None = None
    annotator_logits: Tensor | None = None
    """[M, B], for objectives that judge the annotators themselves; none of the built-in ones does."""
    means: Mapping[str, float] | None = None
    """Means over the global batch by their names in `Objective.means`."""

    def __post_init__(self) -> None:
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        num_pairs = self.policy_w.numel()
        for name, value in given.items():
            if isinstance(value, Tensor):
                check_shape(name, value, num_pairs)
        checked = {
            name: torch.as_tensor(value) for name, value in given.items() if name in RANGES and value is not None
        }
        check_values(checked, torch.isfinite(self.policy_w) & torch.isfinite(self.policy_l))

    def require(self, name: str) -> Tensor:
        """The field as a detached tensor in float32 or wider. Raises ValueError if it is missing."""
        value = getattr(self, name)
        if value is None:
            raise missing(name)
        return torch.as_tensor(value, dtype=wide_dtype(self.policy_w.dtype), device=self.policy_w.device).detach()

    def gap(self) -> Tensor:
        """z = (reference_w - reference_l) - (policy_w - policy_l), [B]; the gradient flows to the policy only."""
        return error_gap(self.require("reference_w"), self.require("reference_l"), self.policy_w, self.policy_l)

    def mean(self, name: str, neutral: float) -> float:
        """A mean over the global batch, or `neutral` where it is not given. Raises ValueError if it is not finite."""
        value = float((self.means or {}).get(name, neutral))
        if not math.isfinite(value):
            raise ValueError(f"means[{name!r}] must be finite, got {value}: leave a batch with broken errors out")
        return value


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
    needs: frozenset[str] = frozenset({"reference"})
    """Side inputs of PairErrors that it reads, some only under certain Params. `reference` stands for reference_w and
    reference_l."""
    means: Mapping[str, Callable[[PairErrors, ParamsT], Tensor]] = field(default_factory=dict)
    """Statistics that it wants the mean of over the pairs of the global batch, in `PairErrors.means`: by name, a
    function that gives them for a part of the batch, detached float64 [B]. Without such a mean the objective takes a
    neutral value that its docstring names."""

    @property
    def has_reference(self) -> bool:
        """Whether it reads the reference's errors."""
        return "reference" in self.needs

    def __call__(self, errors: PairErrors, params: ParamsT) -> ObjectiveResult:
        """Raises TypeError for another objective's Params, ValueError for wrong or missing side inputs."""
        if not isinstance(params, self.Params):
            raise TypeError(f"objective {self.name} needs {self.Params.__name__}, got {type(params).__name__}")
        return self.function(errors, params)
