"""Inverted visits grow stale while the policy moves away from the model that inverted them: measured, and mended.

SmPO-Diffusion (arXiv 2506.02698) inverts with the moving policy in every step; the store holds inversions by the
reference, which differ from those more and more. The staleness of a visit is how far its target noise would move if
the policy inverted it now: x_t changes by d, so the target (x_t - sqrt(ab) x_0) / sqrt(1 - ab) changes by
d / sqrt(1 - ab). Its unit is the noise's standard deviation.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from torch import Tensor

from prefopt.config.base import Size
from prefopt.config.train import RefreshConfig
from prefopt.data.ids import digest
from prefopt.data.keys import reference_key
from prefopt.data.store import RowStore
from prefopt.data.tables import padded
from prefopt.data.visits import VisitBatch, bucket_batches
from prefopt.diffusion.schedule import NoiseSchedule
from prefopt.distributed.inversions import VisitInverter, append_inverted
from prefopt.distributed.stores import Models, VisitReader, inverted_stores, reference_stores
from prefopt.distributed.training.batches import StepReader
from prefopt.distributed.training.engine import PolicyEngine
from prefopt.distributed.training.job import PLAN, PROMPTS, TrainingJob
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.distributed.training.turns import in_turns
from prefopt.models.families import Pipeline, predict
from prefopt.models.loading import MODEL_DTYPES, noise_schedule


@dataclass(frozen=True)
class _Batch:
    """Some of the coming visits, of one bucket."""

    visits: pa.Table
    rows: pa.Table
    """The visits, padded to the size that inversion works with."""

    @property
    def size(self) -> Size:
        """Their bucket's."""
        return Size(*self.visits["target"][0].as_py())


def noise_change(visits: VisitBatch, xt: np.ndarray, schedule: NoiseSchedule) -> np.ndarray:
    """Mean square of the change of each visit's target noise, float64 [B], if its latents were `xt` [2, B, C, H, W]
    and not those stored."""
    assert visits.xt_0 is not None
    assert visits.xt_1 is not None
    change = np.square(xt - np.stack([visits.xt_0, visits.xt_1]).astype(np.float64)).mean(axis=(2, 3, 4))
    levels = np.stack([schedule.levels(torch.from_numpy(t)).numpy() for t in (visits.t_0, visits.t_1)])
    mean: np.ndarray = (change / (1.0 - levels)).mean(axis=0)
    return mean


class Refresh:
    """Looks at the coming visits at every multiple of the interval. All workers call the same methods together."""

    def __init__(
        self, job: TrainingJob, settings: RefreshConfig, engine: PolicyEngine, pipeline: Pipeline, reader: StepReader
    ) -> None:
        config = job.config
        self._job, self._settings, self._config = job, settings, config
        self._engine, self._reader = engine, reader
        self._device, self._dtype = pipeline.device, MODEL_DTYPES[config.train.precision]
        self._invert = VisitInverter(config, pipeline, self._device)
        self._schedule = noise_schedule(pipeline)
        self._visits = VisitReader(job.store, config)
        self._plan = pq.ParquetFile(job.work.open_input(PLAN))
        self._texts = job.work.read_table(PROMPTS)["prompt"].to_pylist()
        self._prompts = PromptEmbeddings(pipeline, self._texts, batch=config.score.visits.batch)
        self._inverter: dict[str, str] | None = None

    def before(self, done: int) -> dict[str, Any]:
        """To be called after `done` steps, before the next: figures for that step's line, empty between measurements.

        `staleness`: root mean square over the measured visits, in standard deviations of the noise; `refreshed`:
        whether the visits up to the next measurement were inverted again, with the policy as it is.
        """
        if done % self._settings.every:
            return {}
        self._reader.settle()
        self._visits.refresh()
        last = min(done + self._settings.every, self._config.train.steps)
        coming = self._plan.read_row_groups(list(range(done, last)), use_threads=False)
        found = self._staleness(coming.slice(0, self._settings.visits))
        above = self._settings.above
        refreshed = above is not None and found >= above
        self._use(self._refresh(coming) if refreshed else None)
        return {"staleness": found, "refreshed": refreshed}

    def state_dict(self) -> dict[str, Any]:
        """Which models inverted the visits of the running interval; None for the reference."""
        return {"inverter": self._inverter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Read the visits of the running interval as the run did that left `state`. InputError if a store lacks one."""
        self._use(state["inverter"])

    def _use(self, inverter: dict[str, str] | None) -> None:
        self._inverter = inverter
        self._reader.use(inverter)

    def _batches(self, visits: pa.Table) -> list[_Batch]:
        size = self._config.score.visits.batch
        parts = [visits.take(rows) for rows in bucket_batches(visits, size)]
        return [_Batch(part, padded(part, size)) for part in parts]

    def _staleness(self, visits: pa.Table) -> float:
        batches = self._batches(visits)

        def squares(number: int) -> list[float]:
            batch = batches[number]
            stored = self._visits.read(batch.rows)
            changes = noise_change(stored, self._inverted(batch, stored), self._schedule)
            of_visits: list[float] = changes[: batch.visits.num_rows].tolist()
            return of_visits

        found = in_turns(len(batches), squares)
        return float(np.sqrt(np.mean([square for part in found for square in part])))

    def _refresh(self, visits: pa.Table) -> dict[str, str]:
        """Invert visits with the policy, where the store lacks them, and return the models that did."""
        inverter = self._policy()
        stores = inverted_stores(self._job.store, self._config, inverter)

        def fill(batch: _Batch) -> None:
            append_inverted(stores[batch.size], batch.visits, self._inverted(batch, self._visits.read(batch.rows)))

        self._fill(stores, visits, lambda row: str(row["inverted_key"]), fill)
        if self._config.train.reference == "cached":
            self._measure_references(visits, inverter)
        return inverter

    def _measure_references(self, visits: pa.Table, inverter: Models) -> None:
        """Of visits that were inverted again. The reference is loaded for this alone."""
        from prefopt.distributed.denoising import append_errors
        from prefopt.distributed.references import ReferenceErrors

        stores = reference_stores(self._job.store, self._config, inverter)
        errors: list[ReferenceErrors] = []

        def fill(batch: _Batch) -> None:
            if not errors:
                errors.append(ReferenceErrors(self._config, self._job.store, self._device, inverter))
            append_errors(stores, batch.visits, errors[0].measure(batch.visits, self._texts))

        self._fill(stores, visits, reference_key, fill)

    def _fill(
        self,
        stores: Mapping[Size, RowStore],
        visits: pa.Table,
        key: Callable[[dict[str, Any]], str],
        fill: Callable[[_Batch], None],
    ) -> None:
        """Fill the buckets' stores batch by batch, passing over batches that lie there whole."""
        batches = self._batches(visits)
        todo: list[list[int]] = [[]]
        if dist.get_rank() == 0:
            for store in stores.values():
                store.refresh()
            todo[0] = [
                number
                for number, batch in enumerate(batches)
                if stores[batch.size].missing(map(key, batch.visits.to_pylist()))
            ]
        dist.broadcast_object_list(todo, src=0)
        if todo[0]:
            in_turns(len(todo[0]), lambda number: fill(batches[todo[0][number]]))

    @torch.no_grad()
    def _inverted(self, batch: _Batch, visits: VisitBatch) -> np.ndarray:
        told = self._prompts.get(batch.rows["prompt"].to_pylist(), visits.drop_prompt.tolist()).repeat(2)
        conditioning = told.sized(visits.time_ids).to(self._device, self._dtype)

        def policy(x: Tensor, t: Tensor) -> Tensor:
            return predict(self._engine.module, x.to(self._dtype), t, conditioning).float()

        return self._invert(visits, policy)

    def _policy(self) -> dict[str, str]:
        """The digests of the policy as it is, and of what lies around it."""
        weights = self._job.weights
        settings = self._config.train.model_dump(include={"method", "lora", "precision"}, mode="json")
        made: list[str] = [""]
        held = hashlib.sha256()
        for name in self._engine.parameters:
            with self._engine.float32_values([name]) as values:
                if dist.get_rank() == 0:
                    held.update(values[0].detach().cpu().contiguous().numpy().tobytes())
        made[0] = digest("policy", str(settings), weights.init.below.digest, held.hexdigest())
        dist.broadcast_object_list(made, src=0)
        return {"model": weights.base.digest, "policy": made[0]}
