"""The stores of costly rows: what the rows of each share, and how a row is called within it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.keys import INVERTED, LATENTS, REFERENCES, REWARDS
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore, RowStore
from prefopt.data.visits import VisitBatch, bucket_rows, inverted_store_family, latent_store_family, read_visits
from prefopt.models.families import model_family
from prefopt.models.identity import vae_digest
from prefopt.models.shape import latent_shape
from prefopt.models.sources import training_weights
from prefopt.rewards import RewardSpec

REFERENCE_COLUMNS = ("reference_0", "reference_1")
"""The reference's errors of both images: of a row in their store, and of a visit."""
Models = Mapping[str, str]
"""Digests, by role, of the models that invert."""


def reward_store(store: Storage, reward: RewardSpec, batch: int) -> RowStore:
    """Scores of one version of one reward model."""
    return RowStore(store, REWARDS, {"reward": reward.name, "version": reward.version, "batch": batch})


def latent_stores(store: Storage, config: RunConfig) -> dict[Size, LatentStore]:
    """Latents of images under the VAE, by the images' size."""
    return {size: LatentStore(store, LATENTS, latent_family(config, size)) for size in config.score.sizes}


def latent_family(config: RunConfig, size: Size) -> dict[str, Any]:
    """What all latents of a size share."""
    return latent_store_family(vae_digest(config.model), size, latent_shape(config, size), config.score.latent_dtype)


def inverted_stores(store: Storage, config: RunConfig, inverter: Models | None = None) -> dict[Size, LatentStore]:
    """Latents inverted to a visit's timestep by the reference, or by another `inverter`, by the images' size."""
    sizes = config.score.sizes
    return {size: LatentStore(store, INVERTED, inverted_family(config, size, inverter)) for size in sizes}


def inverted_family(config: RunConfig, size: Size, inverter: Models | None = None) -> dict[str, Any]:
    """What all latents of one inverter and size share."""
    models = training_weights(config).reference_digests if inverter is None else inverter
    latents = {**latent_family(config, size), **_told_sizes(config)}
    return inverted_store_family(latents, models, config.score.visits)


def _told_sizes(config: RunConfig) -> dict[str, str]:
    """What a UNet that is told sizes is told; nothing where it is what these stores began with."""
    told = config.score.size_conditioning
    return {"sizes": told} if model_family(config.model).told_sizes and told != "target" else {}


class VisitReader:
    """Reads visits from a run's stores, whatever their bucket."""

    def __init__(
        self, store: Storage, config: RunConfig, inverter: Models | None = None, *, clean: bool = False
    ) -> None:
        """`inverter`: the models that inverted the visits, if not the reference; `clean`: leave x_t unread."""
        self._told = config.score.size_conditioning
        inverts = config.score.visits.inversion != "none" and not clean
        self._latents = latent_stores(store, config)
        self._inverted = inverted_stores(store, config, inverter) if inverts else {}

    def refresh(self) -> None:
        """Learn of what was written since the last look."""
        for opened in (*self._latents.values(), *self._inverted.values()):
            opened.refresh()

    def read(self, visits: pa.Table) -> VisitBatch:
        """Visits of one bucket, with VISITS' columns and maybe more. InputError if a store lacks one."""
        (size,) = bucket_rows(visits)
        return read_visits(visits.select(VISITS.names), self._latents[size], self._inverted.get(size), self._told)


def reference_stores(store: Storage, config: RunConfig, inverter: Models | None = None) -> dict[Size, RowStore]:
    """Errors under one reference, one way to make the noisy latents, and one way to compute, by the images' size."""
    sizes = config.score.sizes
    return {size: RowStore(store, REFERENCES, reference_family(config, size, inverter)) for size in sizes}


def read_errors(stores: Mapping[Size, RowStore], visits: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Errors of image_0 and image_1 of visits, float32 [n, 2], from their buckets' stores; `keys` are the visits'
    `reference_keys`. InputError if a store lacks one."""
    errors = np.empty((visits.num_rows, len(REFERENCE_COLUMNS)), np.float32)
    for size, rows in bucket_rows(visits).items():
        stores[size].refresh()
        found = stores[size].get([keys[row] for row in rows], REFERENCE_COLUMNS)
        errors[rows] = np.stack([found[name].to_numpy() for name in REFERENCE_COLUMNS], axis=1)
    return errors


def with_reference_errors(visits: pa.Table, stores: Mapping[Size, RowStore], keys: Sequence[str]) -> pa.Table:
    """The visits with what `read_errors` reads."""
    for name, column in zip(REFERENCE_COLUMNS, read_errors(stores, visits, keys).T, strict=True):
        visits = visits.set_column(visits.schema.get_field_index(name), VISITS.field(name), pa.array(column))
    return visits


def reference_family(config: RunConfig, size: Size, inverter: Models | None = None) -> dict[str, Any]:
    """What all errors of a store share: whatever changes their last bits is part of it, but for the CPU's own kind."""
    noise = (
        _sampled_family(config, size)
        if config.score.visits.inversion == "none"
        else inverted_family(config, size, inverter)
    )
    return {**noise, **training_weights(config).reference_digests, **_computed(config)}


def draw_stores(store: Storage, config: RunConfig, weights: str) -> dict[Size, RowStore]:
    """Errors on sampled noise under one UNet, named by its digest (the reference, or a policy snapshot), by size."""
    how = {"model": training_weights(config).base.digest, "reference": weights, **_computed(config)}
    families = {size: {**_sampled_family(config, size), **how} for size in config.score.sizes}
    return {size: RowStore(store, REFERENCES, family) for size, family in families.items()}


def _sampled_family(config: RunConfig, size: Size) -> dict[str, Any]:
    """What noisy latents of sampled noise share."""
    return {**latent_family(config, size), **_told_sizes(config)}


def _computed(config: RunConfig) -> dict[str, Any]:
    """How errors are computed."""
    return {
        "precision": config.train.precision,
        "batch": config.score.visits.batch,
        "attention": "sdpa",
        "device": config.cluster.device,
    }
