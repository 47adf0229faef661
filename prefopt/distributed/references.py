"""The reference's denoising errors of planned visits: numbers computed once, so that training holds no reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.objective import DpoParams
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.tables import padded
from prefopt.data.visits import bucket_batches, bucket_rows
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.stores import (
    REFERENCE_COLUMNS,
    Models,
    VisitReader,
    reference_key,
    reference_stores,
)
from prefopt.distributed.training.batches import Denoising, noisy_latents
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.errors import InputError
from prefopt.models.families import predict
from prefopt.models.loading import MODEL_DTYPES, load_pipeline, noise_schedule, prediction_type
from prefopt.models.sources import training_weights
from prefopt.models.unets import load_unet

CHECKED_VISITS = 64
TOLERANCE = 0.05
"""Largest root mean square of the logit's change between the stored errors and the same errors measured again."""


class ReferenceErrors:
    """Measures the reference's errors of both images of visits, in padded batches of a fixed size."""

    def __init__(self, config: RunConfig, store: Storage, device: torch.device, inverter: Models | None = None) -> None:
        """`inverter`: the models that inverted the visits, if not the reference."""
        self._size = config.score.visits.batch
        self._visits = VisitReader(store, config, inverter)
        dtype = MODEL_DTYPES[config.train.precision]
        self._pipeline = load_pipeline(config.model, dtype, vae=None, unet=None).to(device)
        weights = training_weights(config)
        self._unet = load_unet(weights.reference, weights.base, dtype).to(device)
        self._how = Denoising(noise_schedule(self._pipeline), prediction_type(self._pipeline), dtype, device)

    def measure(self, visits: pa.Table, prompts: Sequence[str]) -> np.ndarray:
        """float32 [n, 2]: the errors of image_0 and image_1.

        `visits` has VISITS' columns, and `prompt`: each visit's place in `prompts`. InputError if a store lacks a row.
        """
        self._visits.refresh()
        embeddings = PromptEmbeddings(self._pipeline, prompts, batch=self._size)
        errors = np.empty((visits.num_rows, len(REFERENCE_COLUMNS)), np.float32)
        for rows in bucket_batches(visits, self._size):
            errors[rows] = self._batch(visits.take(rows), embeddings)
        return errors

    @torch.no_grad()
    def _batch(self, visits: pa.Table, prompts: PromptEmbeddings) -> np.ndarray:
        size = self._size
        rows = padded(visits, size)
        first = torch.ones(size, dtype=torch.bool)
        given = noisy_latents(rows, self._visits.read(rows), first, prompts, self._how)
        prediction = predict(self._unet, given["xt"], given["t"], given["conditioning"])
        errors = denoising_error(prediction, given["target"]).float().cpu().numpy()
        return np.stack([errors[:size], errors[size:]], axis=1)[: visits.num_rows]


class MeasureReferences:
    """Work units of score: fill the store for some rows of references.parquet (VISITS and the prompt's text)."""

    def __init__(self, config: RunConfig, store: Storage, work: Storage) -> None:
        self._work = work
        self._stores = reference_stores(store, config)
        self._errors = ReferenceErrors(config, store, torch.device(config.cluster.device))

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        visits = self._work.read_table("references.parquet").slice(payload["start"], payload["count"])
        texts = visits["prompt"].combine_chunks().dictionary_encode()
        indexed = visits.set_column(visits.schema.get_field_index("prompt"), "prompt", texts.indices)
        errors = self._errors.measure(indexed, texts.dictionary.to_pylist())
        append_references(self._stores, visits, errors)
        return {"visits": visits.num_rows}


def append_references(stores: Mapping[Size, RowStore], visits: pa.Table, errors: np.ndarray) -> None:
    """Store the errors [n, 2] of visits, each in its bucket's store."""
    for size, rows in bucket_rows(visits).items():
        keys = [reference_key(row) for row in visits.take(rows).to_pylist()]
        stores[size].append(pa.table({"key": keys, **dict(zip(REFERENCE_COLUMNS, errors[rows].T, strict=True))}))


def check_references(
    config: RunConfig, store: Storage, plan: pa.Table, prompts: Sequence[str], device: torch.device
) -> float:
    """Measure the first visits of a plan again and compare; returns the root mean square of the logit's change.

    Raises InputError if it is above TOLERANCE: then the stored errors are not this reference's, or were computed on a
    device that rounds too differently.
    """
    visits = plan.slice(0, CHECKED_VISITS)
    stored = np.stack([visits[name].to_numpy() for name in REFERENCE_COLUMNS], axis=1).astype(np.float64)
    measured = ReferenceErrors(config, store, device).measure(visits, prompts).astype(np.float64)
    beta = getattr(config.train.objective, "beta", DpoParams().beta)
    change = 0.5 * beta * (np.subtract(*stored.T) - np.subtract(*measured.T))
    found = float(np.sqrt(np.mean(np.square(change))))
    if not found <= TOLERANCE:
        raise InputError(
            f"train.reference cached: measured again, the reference's errors of {visits.num_rows} visits move the logit"
            f" by {found:.3g} (root mean square; at most {TOLERANCE} is accepted). They belong to another model, or to"
            " a device that rounds differently: run score again where training runs, or set train.reference: live."
        )
    return found
