"""A UNet's denoising errors of both images of visits: of the reference, and of policy snapshots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.keys import reference_keys
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.tables import padded
from prefopt.data.visits import bucket_batches, bucket_rows
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.stores import REFERENCE_COLUMNS, VisitReader, draw_stores
from prefopt.distributed.training.batches import Denoising, noisy_latents
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.models.families import predict
from prefopt.models.loading import MODEL_DTYPES, load_pipeline, noise_schedule, prediction_type
from prefopt.models.sources import WeightsSource, training_weights
from prefopt.models.unets import load_unet


class DenoisingErrors:
    """Measures a UNet's errors of both images of visits, in padded batches of a fixed size."""

    def __init__(
        self,
        config: RunConfig,
        visits: VisitReader,
        device: torch.device,
        weights: WeightsSource,
    ) -> None:
        self._config, self._visits = config, visits
        self._size = config.score.visits.batch
        dtype = MODEL_DTYPES[config.train.precision]
        self._pipeline = load_pipeline(config.model, dtype, vae=None, unet=None).to(device)
        self._how = Denoising(noise_schedule(self._pipeline), prediction_type(self._pipeline), dtype, device)
        self.use(weights)

    def use(self, weights: WeightsSource) -> None:
        """Measure another UNet from now on. InputError if it cannot be loaded."""
        base = training_weights(self._config).base
        self._unet: Any = None  # the one before goes first: two may not fit
        self._unet = load_unet(weights, base, self._how.dtype).to(self._how.device)

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

    def measure_texts(self, visits: pa.Table) -> np.ndarray:
        """`measure`, where `prompt` is the prompt's text."""
        texts = visits["prompt"].combine_chunks().dictionary_encode()
        indexed = visits.set_column(visits.schema.get_field_index("prompt"), "prompt", texts.indices)
        return self.measure(indexed, texts.dictionary.to_pylist())

    @torch.no_grad()
    def _batch(self, visits: pa.Table, prompts: PromptEmbeddings) -> np.ndarray:
        size = self._size
        rows = padded(visits, size)
        first = torch.ones(size, dtype=torch.bool)
        given = noisy_latents(rows, self._visits.read(rows), first, prompts, self._how)
        prediction = predict(self._unet, given["xt"], given["t"], given["conditioning"])
        errors = denoising_error(prediction, given["target"]).float().cpu().numpy()
        return np.stack([errors[:size], errors[size:]], axis=1)[: visits.num_rows]


def append_errors(stores: Mapping[Size, RowStore], visits: pa.Table, errors: np.ndarray) -> None:
    """Store the errors [n, 2] of visits, each in its bucket's store."""
    keys = reference_keys(visits)
    for size, rows in bucket_rows(visits).items():
        columns = dict(zip(REFERENCE_COLUMNS, errors[rows].T, strict=True))
        pairs = visits["pair_id"].take(rows)
        stores[size].append(pa.table({"key": [keys[row] for row in rows], "pair_id": pairs, **columns}))


class MeasureDraws:
    """Work units of score: errors of some draws under one of several UNets, held one at a time.

    A unit names the weights by their digest, and rows of the table `draws-<digest>.parquet` (VISITS and the prompt).
    """

    def __init__(self, config: RunConfig, store: Storage, work: Storage, weights: Mapping[str, WeightsSource]) -> None:
        self._config, self._store, self._work, self._weights = config, store, work, weights
        self._held = ""
        self._errors: DenoisingErrors | None = None

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        digest = payload["weights"]
        visits = self._work.read_rows(draws_file(digest), payload["start"], payload["count"])
        errors = self._measuring(digest).measure_texts(visits)
        append_errors(draw_stores(self._store, self._config, digest), visits, errors)
        return {"draws": visits.num_rows}

    def _measuring(self, digest: str) -> DenoisingErrors:
        weights = self._weights[digest]
        if self._errors is None:
            device = torch.device(self._config.cluster.device)
            reader = VisitReader(self._store, self._config, clean=True)
            self._errors = DenoisingErrors(self._config, reader, device, weights)
        elif self._held != digest:
            self._errors.use(weights)
        self._held = digest
        return self._errors


def draws_file(digest: str) -> str:
    """Where the work's draws of one UNet lie."""
    return f"draws-{digest[:16]}.parquet"
