"""The reference's denoising errors of planned visits: numbers computed once, so that training holds no reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.config.objective import DpoParams
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.tables import padded
from prefopt.data.visits import read_visits
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.stores import (
    REFERENCE_COLUMNS,
    Models,
    inverted_store,
    latent_store,
    reference_key,
    reference_store,
)
from prefopt.distributed.training.batches import Denoising, noisy_latents
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.errors import InputError
from prefopt.models.families import predict
from prefopt.models.loading import MODEL_DTYPES, load_pipeline, noise_schedule, prediction_type
from prefopt.models.shape import latent_shape
from prefopt.models.sources import training_weights
from prefopt.models.unets import load_unet

CHECKED_VISITS = 64
TOLERANCE = 0.05
"""Largest root mean square of the logit's change between the stored errors and the same errors measured again."""


class ReferenceErrors:
    """Measures the reference's errors of both images of visits, in padded batches of a fixed size."""

    def __init__(self, config: RunConfig, store: Storage, device: torch.device, inverter: Models | None = None) -> None:
        """`inverter`: the models that inverted the visits, if not the reference."""
        self._config = config
        self._latents = latent_store(store, config)
        inverts = config.score.visits.inversion != "none"
        self._inverted = inverted_store(store, config, inverter) if inverts else None
        self._shape = latent_shape(config)
        dtype = MODEL_DTYPES[config.train.precision]
        self._pipeline = load_pipeline(config.model, dtype, vae=None, unet=None).to(device)
        weights = training_weights(config)
        self._unet = load_unet(weights.reference, weights.base, dtype).to(device)
        self._how = Denoising(noise_schedule(self._pipeline), prediction_type(self._pipeline), dtype, device)

    def measure(self, visits: pa.Table, prompts: Sequence[str]) -> np.ndarray:
        """float32 [n, 2]: the errors of image_0 and image_1.

        `visits` has VISITS' columns, and `prompt`: each visit's place in `prompts`. InputError if a store lacks a row.
        """
        self._latents.refresh()
        if self._inverted:
            self._inverted.refresh()
        size = self._config.score.visits.batch
        embeddings = PromptEmbeddings(self._pipeline, prompts, self._config.score.resolution, batch=size)
        starts = range(0, visits.num_rows, size)
        return np.concatenate([self._batch(visits.slice(start, size), size, embeddings) for start in starts])

    @torch.no_grad()
    def _batch(self, visits: pa.Table, size: int, prompts: PromptEmbeddings) -> np.ndarray:
        count = visits.num_rows
        rows = padded(visits, size)
        read = read_visits(rows.select(VISITS.names), self._latents, self._inverted, self._shape)
        given = noisy_latents(rows, read, torch.ones(size, dtype=torch.bool), prompts, self._how)
        prediction = predict(self._unet, given["xt"], given["t"], given["conditioning"])
        errors = denoising_error(prediction, given["target"]).float().cpu().numpy()
        return np.stack([errors[:size], errors[size:]], axis=1)[:count]


class MeasureReferences:
    """Work units of score: fill the store for some rows of references.parquet (VISITS and the prompt's text)."""

    def __init__(self, config: RunConfig, store: Storage, work: Storage) -> None:
        self._work, self._store = work, reference_store(store, config)
        self._errors = ReferenceErrors(config, store, torch.device(config.cluster.device))

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        visits = self._work.read_table("references.parquet").slice(payload["start"], payload["count"])
        texts = visits["prompt"].combine_chunks().dictionary_encode()
        indexed = visits.set_column(visits.schema.get_field_index("prompt"), "prompt", texts.indices)
        errors = self._errors.measure(indexed, texts.dictionary.to_pylist())
        columns = dict(zip(REFERENCE_COLUMNS, errors.T, strict=True))
        self._store.append(pa.table({"key": [reference_key(row) for row in visits.to_pylist()], **columns}))
        return {"visits": visits.num_rows}


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
