"""Work units of score: reward models and the VAE over unique images, inversion over planned visits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from prefopt.config import RunConfig
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.ids import digest
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore, pack_array
from prefopt.data.visits import (
    inverted_store_family,
    latent_key,
    latent_store_family,
    read_visits,
)
from prefopt.diffusion.inversion import invert
from prefopt.distributed.pixels import read_pixels
from prefopt.models.families import encode_prompts, predict
from prefopt.models.identity import vae_digest
from prefopt.models.loading import (
    encode_images,
    image_pixels,
    load_pipeline,
    load_vae,
    noise_schedule,
    prediction_type,
)
from prefopt.models.shape import latent_shape
from prefopt.models.sources import training_weights
from prefopt.models.unets import load_unet
from prefopt.rewards import RewardSpec, checked_scores

LATENTS, INVERTED, REWARDS = "x0", "inverted", "rewards"


def reward_key(image: str, prompt: str) -> str:
    """The key of a reward within its store."""
    return digest("reward", image, prompt)


def reward_store(store: Storage, reward: RewardSpec, batch: int) -> RowStore:
    """Scores of one version of one reward model."""
    return RowStore(store, REWARDS, {"reward": reward.name, "version": reward.version, "batch": batch})


def latent_family(config: RunConfig) -> dict[str, Any]:
    """What all latents of a run share."""
    return latent_store_family(vae_digest(config.model), config.score.resolution, latent_shape(config))


def inverted_family(config: RunConfig) -> dict[str, Any]:
    """What all inverted latents of a run share: the reference inverts."""
    models = training_weights(config).reference_digests
    return inverted_store_family(latent_family(config), models, config.score.visits)


def latent_store(store: Storage, config: RunConfig) -> RowStore:
    """Latents of images under the VAE."""
    return RowStore(store, LATENTS, latent_family(config))


def inverted_store(store: Storage, config: RunConfig) -> RowStore:
    """Latents that the reference's UNet inverted to a visit's timestep."""
    return RowStore(store, INVERTED, inverted_family(config))


@dataclass
class ImageWork:
    """What is still to be done for one image."""

    image_id: str
    prompts: list[str]
    """Prompts under which the reward models have not scored it."""
    flips: list[bool]
    """Mirrorings whose latent is missing."""


class ScoreImages:
    """Scores and encodes the images of a unit, each decoded once, in padded batches of a fixed size."""

    def __init__(
        self,
        config: RunConfig,
        sources: tuple[SourceConfig, ...],
        store: Storage,
        work: Storage,
        rewards: Sequence[RewardSpec],
    ) -> None:
        self._config, self._sources, self._work = config, sources, work
        self._rewards = [reward.load() for reward in rewards]
        batch = config.score.batch
        self._reward_stores = [reward_store(store, reward, batch) for reward in rewards]
        self._latents = latent_store(store, config)
        self._vae = load_vae(config.model).to(config.cluster.device)

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = self._work.read_table("images.parquet").slice(payload["start"], payload["count"]).to_pylist()
        todo = {row["image_id"]: ImageWork(row["image_id"], row["prompts"], row["flips"]) for row in rows}
        scores = _Batches(self._config.score.batch, self._score)
        latents = _Batches(self._config.score.batch, self._encode)
        for image_id, image in read_pixels(self._sources, rows, self._config.ingest.limits):
            for prompt in todo[image_id].prompts:
                scores.add((image_id, image, prompt))
            for flip in todo[image_id].flips:
                latents.add((image_id, image, flip))
        scored, encoded = scores.finish(), latents.finish()
        for index, store in enumerate(self._reward_stores):
            if scored:
                keys = pa.array([key for key, _ in scored])
                store.append(pa.table({"key": keys, "score": pa.array([s[index] for _, s in scored], pa.float32())}))
        if encoded:
            self._latents.append(
                pa.table({"key": [key for key, _ in encoded], LATENTS: pa.array([x for _, x in encoded], pa.binary())})
            )
        return {"images": len(rows)}

    def _score(self, tasks: list[tuple[str, Image.Image, str]]) -> list[tuple[str, list[np.float32]]]:
        images, prompts = [image for _, image, _ in tasks], [prompt for *_, prompt in tasks]
        names = [f"image {image_id}" for image_id, *_ in tasks]
        columns = [checked_scores(reward, images, prompts, names) for reward in self._rewards]
        return [
            (reward_key(image_id, prompt), [column[row] for column in columns])
            for row, (image_id, _, prompt) in enumerate(tasks)
        ]

    def _encode(self, tasks: list[tuple[str, Image.Image, bool]]) -> list[tuple[str, bytes]]:
        resolution = self._config.score.resolution
        pixels = np.stack([image_pixels(image, resolution, flip) for _, image, flip in tasks])
        latents = encode_images(self._vae, torch.from_numpy(pixels).to(self._vae.device)).float().cpu().numpy()
        return [
            (latent_key(image_id, flip), pack_array(latent))
            for (image_id, _, flip), latent in zip(tasks, latents, strict=True)
        ]


class _Batches:
    """Collects tasks into batches of exactly `size`; the last one is padded with its own last task."""

    def __init__(self, size: int, function: Callable[[list[Any]], list[Any]]) -> None:
        self._size, self._function = size, function
        self._tasks: list[Any] = []
        self._results: list[Any] = []

    def add(self, task: Any) -> None:
        self._tasks.append(task)
        if len(self._tasks) == self._size:
            self._flush()

    def finish(self) -> list[Any]:
        if self._tasks:
            self._flush()
        return self._results

    def _flush(self) -> None:
        count = len(self._tasks)
        padded = self._tasks + self._tasks[-1:] * (self._size - count)
        self._results += self._function(padded)[:count]
        self._tasks = []


class InvertVisits:
    """Inverts both images of each visit of a unit to the visit's timestep with the base model's UNet."""

    def __init__(self, config: RunConfig, store: Storage, work: Storage) -> None:
        self._config, self._work = config, work
        self._latents, self._inverted = latent_store(store, config), inverted_store(store, config)
        self._shape = latent_shape(config)
        self._pipeline = load_pipeline(config.model, vae=None, unet=None).to(config.cluster.device)
        weights = training_weights(config)
        self._unet = load_unet(weights.reference, weights.base).to(config.cluster.device)
        self._schedule = noise_schedule(self._pipeline)
        self._prediction_type = prediction_type(self._pipeline)

    @torch.no_grad()
    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._latents.refresh()
        visits = self._work.read_table("inversions.parquet").slice(payload["start"], payload["count"])
        batch = self._config.score.visits.batch
        pieces = [self._invert(visits.slice(start, batch), batch) for start in range(0, visits.num_rows, batch)]
        self._inverted.append(pa.concat_tables(pieces))
        return {"visits": visits.num_rows}

    def _invert(self, visits: pa.Table, size: int) -> pa.Table:
        count = visits.num_rows
        padded = visits.take([*range(count), *[count - 1] * (size - count)])
        batch = read_visits(padded, self._latents, None, self._shape)
        prompts = [
            "" if drop else text for text, drop in zip(padded["prompt"].to_pylist(), batch.drop_prompt, strict=True)
        ]
        device = self._pipeline.device
        told = encode_prompts(self._pipeline, prompts, self._config.score.resolution).repeat(2)
        x0 = torch.from_numpy(np.concatenate([batch.x0_0, batch.x0_1])).to(device)
        t = torch.from_numpy(np.concatenate([batch.t_0, batch.t_1])).to(device)
        settings = self._config.score.visits

        xt = invert(
            lambda x, at: predict(self._unet, x, at, told),
            x0,
            t,
            self._schedule,
            num_steps=settings.steps,
            renoise_steps=settings.renoise_steps,
            grid=settings.grid,
            prediction_type=self._prediction_type,
        )
        columns = {f"xt_{side}": [pack_array(x) for x in xt.cpu().numpy()[side * size :][:count]] for side in (0, 1)}
        arrays = {name: pa.array(cells, pa.binary()) for name, cells in columns.items()}
        return pa.table({"key": visits["inverted_key"].combine_chunks(), **arrays})
