"""Work units of score: reward models and the VAE over unique images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.keys import LATENTS, reward_key
from prefopt.data.storage import Storage
from prefopt.data.visits import latent_key
from prefopt.distributed.pixels import read_pixels
from prefopt.distributed.stores import latent_stores, reward_store
from prefopt.models.loading import cut_image, encode_images, image_pixels, load_vae
from prefopt.rewards import RewardSpec, checked_scores


@dataclass
class ImageWork:
    """What is still to be done for one image."""

    image_id: str
    prompts: list[str]
    """Prompts under which the reward models have not scored it."""
    latents: list[tuple[Size, bool]]
    """Sizes, and whether mirrored, whose latent is missing."""


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
        self._latents = latent_stores(store, config)
        self._vae = load_vae(config.model).to(config.cluster.device)

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = self._work.read_rows("images.parquet", payload["start"], payload["count"]).to_pylist()
        todo = {row["image_id"]: _image_work(row) for row in rows}
        scores = _Batches(self._config.score.batch, self._score)
        latents = {size: _Batches(self._config.score.batch, partial(self._encode, size)) for size in self._latents}
        for image_id, image in read_pixels(self._sources, rows, self._config.ingest.limits):
            for prompt in todo[image_id].prompts:
                scores.add((image_id, image, prompt))
            for size, flip in todo[image_id].latents:
                latents[size].add((image_id, cut_image(image, size), flip))
        scored = scores.finish()
        for index, store in enumerate(self._reward_stores):
            if scored:
                keys, of = ([row[place] for row in scored] for place in (0, 1))
                column = pa.array([scores[index] for *_, scores in scored], pa.float32())
                store.append(pa.table({"key": keys, "image_id": of, "score": column}))
        for size, batches in latents.items():
            if encoded := batches.finish():
                keys, of, cells = map(list, zip(*encoded, strict=True))
                columns = {"key": keys, "image_id": of, LATENTS: pa.array(cells, pa.binary())}
                self._latents[size].append(pa.table(columns))
        return {"images": len(rows)}

    def _score(self, tasks: list[tuple[str, Image.Image, str]]) -> list[tuple[str, str, list[np.float32]]]:
        images, prompts = [image for _, image, _ in tasks], [prompt for *_, prompt in tasks]
        names = [f"image {image_id}" for image_id, *_ in tasks]
        columns = [checked_scores(reward, images, prompts, names) for reward in self._rewards]
        return [
            (reward_key(image_id, prompt), image_id, [column[row] for column in columns])
            for row, (image_id, _, prompt) in enumerate(tasks)
        ]

    def _encode(self, size: Size, tasks: list[tuple[str, Image.Image, bool]]) -> list[tuple[str, str, bytes]]:
        pixels = np.stack([image_pixels(image, flip) for _, image, flip in tasks])
        latents = encode_images(self._vae, torch.from_numpy(pixels).to(self._vae.device)).float().cpu().numpy()
        return [
            (latent_key(image_id, flip), image_id, self._latents[size].pack(latent, f"image {image_id}"))
            for (image_id, _, flip), latent in zip(tasks, latents, strict=True)
        ]


def _image_work(row: dict[str, Any]) -> ImageWork:
    latents = [(Size(*latent["size"]), latent["flip"]) for latent in row["latents"]]
    return ImageWork(row["image_id"], row["prompts"], latents)


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
