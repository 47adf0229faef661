"""One optimizer step over a worker's micro-batches, and what all workers together know of it afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prefopt.config.objective import AdaptiveParams, ObjectiveConfig, SmpoParams
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.training.averages import Averages
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.denoisers import AVERAGES, Denoisers
from prefopt.distributed.training.engine import StepOutcome
from prefopt.distributed.training.means import RunningMeans, mean_columns, without_means
from prefopt.distributed.training.minority import Judgement, MinorityJudge, Window
from prefopt.models.adapters import POLICY, REFERENCE
from prefopt.objectives import OBJECTIVES, PairErrors
from prefopt.objectives.smpo import relabel


@dataclass(frozen=True)
class _Reference:
    """The reference's errors of winner and loser, and its prediction if it was asked while training."""

    errors: tuple[Tensor, Tensor]
    prediction: Tensor | None


PairValues = dict[str, Tensor]
"""Per-pair figures of one micro-batch, or of a global batch: float64 by name, last axis pairs."""


class Trainer:
    """Runs optimizer steps. All workers call the same methods in the same order."""

    def __init__(self, denoisers: Denoisers, averages: Averages, params: ObjectiveConfig) -> None:
        self._models = denoisers
        self._averages = averages
        self._params = params
        self._objective = OBJECTIVES[params.name]
        self.judge = MinorityJudge(params) if isinstance(params, AdaptiveParams) else None
        self._means = RunningMeans(list(self._objective.means))

    def step(self, batches: Sequence[MicroBatch], lr: float) -> tuple[StepOutcome, PairValues]:
        """One optimizer step; returns its outcome and the figures of every pair of the global batch, in order.

        Figures may be not finite, also those of an applied step: nothing is learned from them here.
        """
        window = self._window(batches) if self.judge and self.judge.needs_window else None
        outcome: StepOutcome | None = None
        observed: list[PairValues] = []
        for batch in batches:
            values, outcome = self._micro_step(batch, lr, window)
            observed.append(values)
        assert outcome is not None, "the last micro-batch of a step is its boundary"
        values = gather_pairs(observed)
        if outcome.applied:
            self._averages.update()
            if all(bool(torch.isfinite(value).all()) for value in values.values()):
                self._means.update(values)
            if self.judge:
                self.judge.update(_window_of(values))
        return outcome, without_means(values)

    def state_dict(self) -> dict[str, Any]:
        """What later steps need of earlier ones beside weights and averages: plain values that survive JSON exactly."""
        return {"means": self._means.state_dict(), "minority": self.judge.state_dict() if self.judge else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._means.load_state_dict(state["means"])
        if self.judge:
            self.judge.load_state_dict(state["minority"])

    def _micro_step(self, batch: MicroBatch, lr: float, window: Window | None) -> tuple[PairValues, StepOutcome | None]:
        known = self._reference(batch)
        others = [self._gap(known.errors, who, batch) for who in self._observers()] if known else []
        engine = self._models.engine
        prediction = engine(batch.xt, batch.t, batch.conditioning)
        policy = self._errors(prediction, batch)
        z = torch.stack([_gap(known.errors, policy).detach(), *others]) if known else None
        judged = self.judge.judge(z, batch.u, window) if self.judge and z is not None else None
        errors = self._pair_errors(batch, policy, known.errors if known else (None, None), judged)
        result = self._objective(errors, self._params)
        engine.backward(result.loss.mean())
        outcome = engine.step(lr)
        values = _values(result.loss, result.metrics, z, batch, judged)
        values |= mean_columns({name: figure(errors, self._params) for name, figure in self._objective.means.items()})
        return values | (self._against(known, prediction.detach(), batch) if known else {}), outcome

    def _against(self, known: _Reference, prediction: Tensor, batch: MicroBatch) -> PairValues:
        """The reference's errors, and the policy's distance from it where it was asked."""
        values = {"reference_w": known.errors[0].double(), "reference_l": known.errors[1].double()}
        if known.prediction is not None:
            away = self._errors(prediction, replace(batch, target=known.prediction.float()))
            values["distance"] = (0.5 * (away[0] + away[1])).double()
        return values

    def _observers(self) -> Sequence[str]:
        return AVERAGES if self.judge and self.judge.online else ()

    def _reference(self, batch: MicroBatch) -> _Reference | None:
        """None where the objective has no reference, and none is known."""
        if batch.reference is not None:
            return _Reference(batch.reference, None)
        if not self._objective.has_reference:
            return None
        prediction = self._models.predict(REFERENCE, batch)
        return _Reference(self._errors(prediction, batch), prediction)

    def _gap(self, reference: tuple[Tensor, Tensor], who: str, batch: MicroBatch) -> Tensor:
        return _gap(reference, self._errors(self._models.predict(who, batch), batch))

    def _errors(self, prediction: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        errors = denoising_error(prediction, batch.target)
        return errors[: batch.pairs], errors[batch.pairs :]

    def _pair_errors(
        self,
        batch: MicroBatch,
        policy: tuple[Tensor, Tensor],
        reference: tuple[Tensor | None, Tensor | None],
        judged: Judgement | None,
    ) -> PairErrors:
        alpha, params = batch.alpha, self._params
        if alpha is not None and isinstance(params, SmpoParams):
            alpha = relabel(params.relabel, alpha, batch.label, params.blend)
        return PairErrors(
            policy_w=policy[0],
            policy_l=policy[1],
            reference_w=reference[0],
            reference_l=reference[1],
            alpha=alpha,
            u=judged.u if judged else None,
            weight=batch.weight,
            margin_mean=judged.margin_mean if judged else None,
            label=batch.label,
            timestep=batch.t[: batch.pairs].to(torch.float32),
            annotator_logits=judged.logits if judged else None,
            means=self._means.values(),
        )

    def _window(self, batches: Sequence[MicroBatch]) -> Window:
        """An annotator pass over the whole global batch, before the first backward."""
        observed = []
        for batch in batches:
            known = self._reference(batch)
            assert known is not None, "an objective with a minority metric has a reference"
            who = (POLICY, *self._observers())
            z = torch.stack([self._gap(known.errors, name, batch) for name in who])
            observed.append({"z": z.double()})
        return _window_of(gather_pairs(observed))


def _gap(reference: tuple[Tensor, Tensor], model: tuple[Tensor, Tensor]) -> Tensor:
    return (reference[0] - reference[1]) - (model[0] - model[1])


def _values(
    loss: Tensor, metrics: Mapping[str, float | Tensor], z: Tensor | None, batch: MicroBatch, judged: Judgement | None
) -> PairValues:
    values = {name: value for name, value in metrics.items() if isinstance(value, Tensor) and value.dim() == 1}
    values |= {"loss": loss, "timestep": batch.t[: batch.pairs]}
    if z is not None:
        values["z"] = z
    if judged and judged.online is not None:
        values["u_online"] = judged.online
    if judged and batch.u is not None:
        values["u_offline"] = batch.u
    return {name: value.detach().double() for name, value in values.items()}


def _window_of(values: PairValues) -> Window:
    z = torch.nan_to_num(values["z"], nan=0.0, posinf=0.0, neginf=0.0)
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
