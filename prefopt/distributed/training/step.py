"""One optimizer step over a worker's micro-batches, and what all workers together know of it afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prefopt.config.objective import AdaptiveParams, ObjectiveConfig, SmpoParams
from prefopt.diffusion.errors import denoising_error, error_gap
from prefopt.distributed.training.averages import Averages
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.denoisers import AVERAGES, Denoisers
from prefopt.distributed.training.engine import StepOutcome
from prefopt.distributed.training.minority import Judgement, MinorityJudge, Window
from prefopt.models.adapters import POLICY, REFERENCE
from prefopt.objectives import OBJECTIVES, PairErrors
from prefopt.objectives.smpo import relabel

PairValues = dict[str, Tensor]
"""Per-pair figures of one micro-batch, or of a global batch: float64 by name, last axis pairs."""


_Z = "z"


@dataclass(frozen=True)
class _Known:
    """What models other than the policy make of a micro-batch."""

    reference: tuple[Tensor, Tensor] | None
    """The reference's errors of winner and loser."""
    prediction: Tensor | None = None
    """The reference's, if it was asked while training."""
    gaps: tuple[Tensor, ...] = ()
    """z of each average."""


@dataclass(frozen=True)
class _Outlook:
    """What a pass over the whole global batch, before the first backward, has found."""

    known: Sequence[_Known]
    """Of each of this worker's micro-batches."""
    window: Window | None
    means: dict[str, float]
    """By the names in `Objective.means`."""


class Trainer:
    """Runs optimizer steps. All workers call the same methods in the same order."""

    def __init__(self, denoisers: Denoisers, averages: Averages, params: ObjectiveConfig) -> None:
        self._models = denoisers
        self._averages = averages
        self._params = params
        self._objective = OBJECTIVES[params.name]
        self.judge = MinorityJudge(params) if isinstance(params, AdaptiveParams) else None
        self._looks_ahead = bool(self._objective.means) or bool(self.judge and self.judge.needs_window)

    def step(self, batches: Sequence[MicroBatch], lr: float) -> tuple[StepOutcome, PairValues]:
        """One optimizer step; returns its outcome and the figures of every pair of the global batch, in order.

        Figures may be not finite, also those of an applied step: nothing is learned from them here.
        """
        outlook = self._look_ahead(batches) if self._looks_ahead else None
        outcome: StepOutcome | None = None
        observed: list[PairValues] = []
        for number, batch in enumerate(batches):
            known = outlook.known[number] if outlook else self._known(batch)
            values, outcome = self._micro_step(batch, lr, known, outlook)
            observed.append(values)
        assert outcome is not None, "the last micro-batch of a step is its boundary"
        values = gather_pairs(observed)
        if outcome.applied:
            self._averages.update()
            if self.judge:
                self.judge.update(_window_of(values))
        return outcome, values

    def state_dict(self) -> dict[str, Any]:
        """What later steps need of earlier ones beside weights and averages: plain values that survive JSON exactly."""
        return {"minority": self.judge.state_dict() if self.judge else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        if self.judge:
            self.judge.load_state_dict(state["minority"])

    def _micro_step(
        self, batch: MicroBatch, lr: float, known: _Known, outlook: _Outlook | None
    ) -> tuple[PairValues, StepOutcome | None]:
        engine = self._models.engine
        prediction = engine(batch.xt, batch.t, batch.conditioning)
        policy = self._errors(prediction, batch)
        z = _gaps(known, policy)
        window, means = (outlook.window, outlook.means) if outlook else (None, {})
        judged = self.judge.judge(z, batch.u, window) if self.judge and z is not None else None
        errors = self._pair_errors(batch, policy, known.reference, judged, means)
        result = self._objective(errors, self._params)
        engine.backward(result.loss.mean())
        outcome = engine.step(lr)
        values = _values(result.loss, result.metrics, z, batch, judged)
        return values | self._against(known, prediction.detach(), batch), outcome

    def _against(self, known: _Known, prediction: Tensor, batch: MicroBatch) -> PairValues:
        """The reference's errors, and the policy's distance from it where it was asked."""
        if known.reference is None:
            return {}
        values = {"reference_w": known.reference[0].double(), "reference_l": known.reference[1].double()}
        if known.prediction is not None:
            away = self._errors(prediction, replace(batch, target=known.prediction.float()))
            values["distance"] = (0.5 * (away[0] + away[1])).double()
        return values

    def _observers(self) -> Sequence[str]:
        return AVERAGES if self.judge and self.judge.online else ()

    def _known(self, batch: MicroBatch) -> _Known:
        """Without a reference where the objective has none and none is known."""
        prediction: Tensor | None = None
        errors = batch.reference
        if errors is None:
            if not self._objective.has_reference:
                return _Known(None)
            prediction = self._models.predict(REFERENCE, batch)
            errors = self._errors(prediction, batch)
        gaps = [error_gap(*errors, *self._predicted(who, batch)) for who in self._observers()]
        return _Known(errors, prediction, tuple(gaps))

    def _predicted(self, who: str, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        return self._errors(self._models.predict(who, batch), batch)

    def _errors(self, prediction: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        errors = denoising_error(prediction, batch.target)
        return errors[: batch.pairs], errors[batch.pairs :]

    def _pair_errors(
        self,
        batch: MicroBatch,
        policy: tuple[Tensor, Tensor],
        reference: tuple[Tensor, Tensor] | None,
        judged: Judgement | None,
        means: Mapping[str, float],
    ) -> PairErrors:
        alpha, params = batch.alpha, self._params
        if alpha is not None and isinstance(params, SmpoParams):
            alpha = relabel(params.relabel, alpha, batch.label, params.blend)
        return PairErrors(
            policy_w=policy[0],
            policy_l=policy[1],
            reference_w=reference and reference[0],
            reference_l=reference and reference[1],
            alpha=alpha,
            u=judged.u if judged else None,
            weight=batch.weight,
            margin_mean=judged.margin_mean if judged else None,
            label=batch.label,
            timestep=batch.t[: batch.pairs].to(torch.float32),
            annotator_logits=judged.logits if judged else None,
            means=means,
        )

    def _look_ahead(self, batches: Sequence[MicroBatch]) -> _Outlook:
        """A pass over the whole global batch without gradient, so that no split of it changes what all pairs share."""
        known = [self._known(batch) for batch in batches]
        observed: list[PairValues] = []
        for batch, others in zip(batches, known, strict=True):
            policy = self._predicted(POLICY, batch)
            errors = self._pair_errors(batch, policy, others.reference, None, {})
            values = {name: figure(errors, self._params) for name, figure in self._objective.means.items()}
            z = _gaps(others, policy)
            observed.append(values if z is None else values | {_Z: z.double()})
        gathered = gather_pairs(observed)
        window = _window_of(gathered) if self.judge and self.judge.needs_window else None
        return _Outlook(known, window, {name: _finite_mean(gathered[name]) for name in self._objective.means})


def _gaps(known: _Known, policy: tuple[Tensor, Tensor]) -> Tensor | None:
    """z of the policy and of each average, [M, B]; None without a reference."""
    if known.reference is None:
        return None
    return torch.stack([error_gap(*known.reference, *policy).detach(), *known.gaps])


def _finite_mean(values: Tensor) -> float:
    """Over the pairs whose figure is finite: a broken pair makes its own loss broken, and the step is skipped."""
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if finite.numel() else 1.0


def _values(
    loss: Tensor, metrics: Mapping[str, float | Tensor], z: Tensor | None, batch: MicroBatch, judged: Judgement | None
) -> PairValues:
    values = {name: value for name, value in metrics.items() if isinstance(value, Tensor) and value.dim() == 1}
    values |= {"loss": loss, "timestep": batch.t[: batch.pairs]}
    if z is not None:
        values[_Z] = z
    if judged and judged.online is not None:
        values["u_online"] = judged.online
    if judged and batch.u is not None:
        values["u_offline"] = batch.u
    return {name: value.detach().double() for name, value in values.items()}


def _window_of(values: PairValues) -> Window:
    z = torch.nan_to_num(values[_Z], nan=0.0, posinf=0.0, neginf=0.0)
    return Window(z.square().sum(dim=-1), float(z[0].sum()), z.shape[-1])


def gather_pairs(observed: Sequence[PairValues]) -> PairValues:
    """The figures of the whole global batch on every worker, pairs in the order of the plan.

    A worker gives its micro-batches in order; micro-batch j of the step is worker (j mod workers)'s.
    """
    names = sorted(observed[0])
    rows = {name: observed[0][name].reshape(-1, observed[0][name].shape[-1]).shape[0] for name in names}
    mine = torch.stack([torch.cat([values[name].reshape(rows[name], -1) for name in names]) for values in observed])
    received = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(received, mine)
    ordered = torch.stack(received, dim=1).flatten(0, 1)
    table = ordered.permute(1, 0, 2).flatten(1).cpu()
    parts = dict(zip(names, torch.split(table, [rows[name] for name in names]), strict=True))
    return {name: part if observed[0][name].dim() == 2 else part[0] for name, part in parts.items()}
