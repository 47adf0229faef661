"""Micro-batches of pairs, as the denoiser and the objective want them, read from the plan and the stores."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from prefopt.config.base import Size
from prefopt.data.keys import reference_keys
from prefopt.data.store import RowStore
from prefopt.data.visits import VisitBatch
from prefopt.diffusion.schedule import NoiseSchedule, PredictionType, add_noise, prediction_target, target_noise
from prefopt.distributed.stores import Models, VisitReader, reference_stores, with_reference_errors
from prefopt.distributed.training.job import PLAN, TrainingJob
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.models.families import Conditioning


@dataclass(frozen=True)
class MicroBatch:
    """B pairs of one bucket. Winners come first, losers after them, in one batch of 2B for the denoiser."""

    xt: Tensor
    """[2B, C, H, W] in the denoiser's dtype."""
    t: Tensor
    """int64 [2B]."""
    conditioning: Conditioning
    """2B rows, embeddings in the denoiser's dtype."""
    target: Tensor
    """What the denoiser should return, float32 [2B, C, H, W]."""
    label: Tensor
    """P(the winner is better), float32 [B]."""
    alpha: Tensor | None
    """Soft preference for the winner, float32 [B]."""
    u: Tensor | None
    """Offline minority metric of the label, float32 [B]."""
    weight: Tensor | None = None
    """The label's weight, float32 [B]."""
    reference: tuple[Tensor, Tensor] | None = None
    """The reference's errors of winner and loser, float32 [B] each, where they were computed beforehand."""

    @property
    def pairs(self) -> int:
        """B."""
        return self.label.shape[0]


@dataclass(frozen=True)
class Denoising:
    """How latents become the denoiser's input and target."""

    schedule: NoiseSchedule
    prediction_type: PredictionType
    dtype: torch.dtype
    device: torch.device


def make_micro_batch(rows: pa.Table, visits: VisitBatch, prompts: PromptEmbeddings, how: Denoising) -> MicroBatch:
    """Turn visits into a micro-batch: order each pair by its label, then add noise or take the inverted latents."""
    first_wins = torch.from_numpy(visits.label >= 0.5)
    return MicroBatch(
        **noisy_latents(rows, visits, first_wins, prompts, how),
        label=torch.from_numpy(np.maximum(visits.label, 1.0 - visits.label)).to(how.device, torch.float32),
        alpha=_optional(rows, "alpha", how.device),
        u=_optional(rows, "u", how.device),
        weight=_optional(rows, "weight", how.device),
        reference=_cached_reference(rows, first_wins, how.device),
    )


def noisy_latents(
    rows: pa.Table, visits: VisitBatch, first_wins: Tensor, prompts: PromptEmbeddings, how: Denoising
) -> dict[str, Any]:
    """MicroBatch's xt, t, conditioning and target. image_0 stands first where `first_wins` [B] is set, else image_1."""
    x0 = _by_label(visits.x0_0, visits.x0_1, first_wins)
    t = _by_label(visits.t_0, visits.t_1, first_wins)
    if visits.xt_0 is None or visits.xt_1 is None:
        noise = torch.from_numpy(visits.noise()).repeat(2, 1, 1, 1)
        xt = add_noise(x0, noise, t, how.schedule)
    else:
        xt = _by_label(visits.xt_0, visits.xt_1, first_wins)
        noise = target_noise(x0, xt, t, how.schedule)
    target = prediction_target(x0, noise, t, how.schedule, how.prediction_type)
    told = prompts.get(rows["prompt"].to_pylist(), visits.drop_prompt.tolist()).repeat(2)
    sizes = _by_label(visits.time_ids_0, visits.time_ids_1, first_wins)
    return {
        "xt": xt.to(how.device, how.dtype),
        "t": t.to(how.device),
        "conditioning": told.sized(sizes).to(how.device, how.dtype),
        "target": target.to(how.device),
    }


def _by_label(first: np.ndarray, second: np.ndarray, first_wins: Tensor) -> Tensor:
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    wins = first_wins.reshape(-1, *[1] * (a.dim() - 1))
    return torch.cat([torch.where(wins, a, b), torch.where(wins, b, a)])


def _cached_reference(rows: pa.Table, first_wins: Tensor, device: torch.device) -> tuple[Tensor, Tensor] | None:
    first, second = (_optional(rows, name, torch.device("cpu")) for name in ("reference_0", "reference_1"))
    if first is None or second is None:
        return None
    winner, loser = torch.where(first_wins, first, second), torch.where(first_wins, second, first)
    return winner.to(device), loser.to(device)


def _optional(rows: pa.Table, name: str, device: torch.device) -> Tensor | None:
    if rows[name].null_count:
        return None
    return torch.tensor(rows[name].to_pylist(), dtype=torch.float32, device=device)


class StepReader:
    """Makes a step's micro-batches that belong to one worker, one step ahead of their use, in a thread of its own."""

    def __init__(
        self, job: TrainingJob, prompts: PromptEmbeddings, how: Denoising, *, rank: int, world_size: int
    ) -> None:
        train = job.config.train
        self._micro = [(j * train.micro_batch, train.micro_batch) for j in range(rank, train.micro_batches, world_size)]
        self._job = job
        self._plan = pq.ParquetFile(job.work.open_input(PLAN))
        self._prompts, self._how = prompts, how
        self._visits: VisitReader
        self._references: dict[Size, RowStore] = {}
        threads = job.config.cluster.threads
        self._pool = ThreadPoolExecutor(max_workers=1, initializer=torch.set_num_threads, initargs=(threads,))
        self._ahead: tuple[int, Future[list[MicroBatch]]] | None = None
        self.use(None)

    def use(self, inverter: Models | None) -> None:
        """Read visits that these models inverted, and the reference's errors of them; None: as the plan has them."""
        config, store = self._job.config, self._job.store
        self.settle()
        self._ahead = None
        self._visits = VisitReader(store, config, inverter)
        self._visits.refresh()
        refreshed = inverter is not None and config.train.reference == "cached"
        self._references = reference_stores(store, config, inverter) if refreshed else {}

    def get(self, step: int, last: int) -> list[MicroBatch]:
        """The micro-batches of a step, counted from 0, in their order. InputError if a store lacks a row."""
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = (step, self._pool.submit(self._make, step))
        made = self._ahead[1].result()
        self._ahead = (step + 1, self._pool.submit(self._make, step + 1)) if step + 1 < last else None
        return made

    def settle(self) -> None:
        """Wait until nothing is made: the text encoders and their tokenizers serve one thread at a time."""
        if self._ahead:
            wait([self._ahead[1]])

    def _make(self, step: int) -> list[MicroBatch]:
        table = self._plan.read_row_group(step, use_threads=False)
        parts = [table.slice(start, size) for start, size in self._micro]
        if self._references:
            parts = [with_reference_errors(part, self._references, reference_keys(part)) for part in parts]
        return [make_micro_batch(part, self._visits.read(part), self._prompts, self._how) for part in parts]
