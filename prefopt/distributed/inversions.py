"""Inversion of planned visits: from both images' clean latents to their noisy ones at the visit's timestep."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore
from prefopt.data.tables import padded
from prefopt.data.visits import VisitBatch, bucket_rows
from prefopt.diffusion.inversion import Predict, invert, level_counts
from prefopt.diffusion.regularise import NoiseRegularisation
from prefopt.distributed.stores import VisitReader, inverted_stores
from prefopt.models.families import Pipeline, encode_prompts, predict
from prefopt.models.loading import load_pipeline, noise_schedule, prediction_type
from prefopt.models.sources import training_weights
from prefopt.models.unets import load_unet


class VisitInverter:
    """Inverts visits in batches of a fixed size, as the config says, with whatever model is given."""

    def __init__(self, config: RunConfig, pipeline: Pipeline, device: torch.device) -> None:
        self._settings, self._device = config.score.visits, device
        self._schedule, self._prediction_type = noise_schedule(pipeline), prediction_type(pipeline)

    def by_cost(self, visits: pa.Table) -> np.ndarray:
        """Row numbers of visits, those that pass as many levels side by side."""
        t = torch.from_numpy(np.maximum(visits["t_0"].to_numpy(), visits["t_1"].to_numpy()).astype(np.int64))
        counts = level_counts(t, self._settings.steps, self._schedule.num_steps, self._settings.grid)
        return np.argsort(counts.numpy(), kind="stable")

    def __call__(self, visits: VisitBatch, predict: Predict) -> np.ndarray:
        """x_t, float32 [2, B, C, H, W]: of every image_0, then of every image_1.

        `predict` is asked for [2B, C, H, W] in the same order.
        """
        x0 = torch.from_numpy(np.concatenate([visits.x0_0, visits.x0_1])).to(self._device)
        t = torch.from_numpy(np.concatenate([visits.t_0, visits.t_1])).to(self._device)
        xt = invert(
            predict,
            x0,
            t,
            self._schedule,
            num_steps=self._settings.steps,
            renoise_steps=self._settings.renoise_steps,
            grid=self._settings.grid,
            prediction_type=self._prediction_type,
            average=self._settings.average,
            regularisation=self._regularisation(visits),
        )
        return xt.cpu().numpy().reshape(2, -1, *xt.shape[1:])

    def _regularisation(self, visits: VisitBatch) -> NoiseRegularisation | None:
        how = self._settings.regularisation
        if how is None:
            return None
        noise = torch.from_numpy(visits.noise()).repeat(2, 1, 1, 1)
        return NoiseRegularisation(noise, self._settings.seed, **how.model_dump())


def append_inverted(store: LatentStore, visits: pa.Table, xt: np.ndarray) -> None:
    """Store the inverted latents of visits, float32 [2, B or more, C, H, W]: those beyond the visits are padding.

    InputError if the store's dtype cannot hold one.
    """
    columns: dict[str, Any] = {"key": visits["inverted_key"], "pair_id": visits["pair_id"]}
    for side in (0, 1):
        names = [f"image_{side} of pair {pair}, inverted," for pair in visits["pair_id"].to_pylist()]
        cells = [store.pack(x, name) for x, name in zip(xt[side], names, strict=False)]
        columns[f"xt_{side}"] = pa.array(cells, pa.binary())
    store.append(pa.table(columns))


class InvertVisits:
    """Work units of score: invert visits with the reference (rows of inversions.parquet: VISITS and the prompt)."""

    def __init__(self, config: RunConfig, store: Storage, work: Storage) -> None:
        self._work, self._batch = work, config.score.visits.batch
        self._visits = VisitReader(store, config, clean=True)
        self._inverted = inverted_stores(store, config)
        device = torch.device(config.cluster.device)
        self._pipeline = load_pipeline(config.model, vae=None, unet=None).to(device)
        weights = training_weights(config)
        self._unet = load_unet(weights.reference, weights.base).to(device)
        self._inverter = VisitInverter(config, self._pipeline, device)

    @torch.no_grad()
    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._visits.refresh()
        visits = self._work.read_rows("inversions.parquet", payload["start"], payload["count"])
        for bucket, rows in bucket_rows(visits).items():
            chosen = visits.take(rows)
            append_inverted(self._inverted[bucket], chosen, self._invert(chosen))
        return {"visits": visits.num_rows}

    def _invert(self, visits: pa.Table) -> np.ndarray:
        """[2, B, C, H, W], in the visits' order."""
        order = self._inverter.by_cost(visits)
        starts = range(0, len(order), self._batch)
        pieces = [self._invert_batch(visits.take(order[start : start + self._batch])) for start in starts]
        return np.concatenate(pieces, axis=1)[:, np.argsort(order)]

    def _invert_batch(self, visits: pa.Table) -> np.ndarray:
        rows = padded(visits, self._batch)
        batch = self._visits.read(rows)
        prompts = [
            "" if drop else text for text, drop in zip(rows["prompt"].to_pylist(), batch.drop_prompt, strict=True)
        ]
        told = encode_prompts(self._pipeline, prompts).repeat(2).sized(batch.time_ids)
        return self._inverter(batch, lambda x, t: predict(self._unet, x, t, told))[:, : visits.num_rows]
