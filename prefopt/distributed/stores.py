"""The stores of costly rows: what the rows of each share, and how a row is called within it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.data.ids import digest
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.visits import inverted_store_family, latent_store_family
from prefopt.models.identity import vae_digest
from prefopt.models.shape import latent_shape
from prefopt.models.sources import training_weights
from prefopt.rewards import RewardSpec

LATENTS, INVERTED, REFERENCES, REWARDS = "x0", "inverted", "references", "rewards"
REFERENCE_COLUMNS = ("reference_0", "reference_1")
"""The reference's errors of both images: of a row in their store, and of a visit."""
_ROWS = 10_000
Models = Mapping[str, str]
"""Digests, by role, of the models that invert."""


def reward_key(image: str, prompt: str) -> str:
    """The key of a reward within its store."""
    return digest("reward", image, prompt)


def reward_store(store: Storage, reward: RewardSpec, batch: int) -> RowStore:
    """Scores of one version of one reward model."""
    return RowStore(store, REWARDS, {"reward": reward.name, "version": reward.version, "batch": batch})


def latent_store(store: Storage, config: RunConfig) -> RowStore:
    """Latents of images under the VAE."""
    return RowStore(store, LATENTS, latent_family(config))


def latent_family(config: RunConfig) -> dict[str, Any]:
    """What all latents of a run share."""
    return latent_store_family(vae_digest(config.model), config.score.resolution, latent_shape(config))


def inverted_store(store: Storage, config: RunConfig, inverter: Models | None = None) -> RowStore:
    """Latents inverted to a visit's timestep by the reference, or by another `inverter`."""
    return RowStore(store, INVERTED, inverted_family(config, inverter))


def inverted_family(config: RunConfig, inverter: Models | None = None) -> dict[str, Any]:
    """What all latents of one inverter share."""
    models = training_weights(config).reference_digests if inverter is None else inverter
    return inverted_store_family(latent_family(config), models, config.score.visits)


def reference_key(visit: Mapping[str, Any]) -> str:
    """The key of a visit's errors within their store."""
    fixed = [str(visit[name]) for name in ("t_0", "t_1", "flip_0", "flip_1", "drop_prompt")]
    return digest("reference", visit["visit_id"], *fixed)


def reference_keys(visits: pa.Table) -> list[str]:
    """The keys of visits' errors, in order."""
    return [reference_key(visit) for part in visits.to_batches(max_chunksize=_ROWS) for visit in part.to_pylist()]


def reference_store(store: Storage, config: RunConfig, inverter: Models | None = None) -> RowStore:
    """Errors under one reference, one way to make the noisy latents, and one way to compute."""
    return RowStore(store, REFERENCES, reference_family(config, inverter))


def read_errors(store: RowStore, keys: Sequence[str]) -> np.ndarray:
    """Errors of image_0 and image_1, float32 [n, 2]. InputError if the store lacks one."""
    store.refresh()
    errors = store.get(keys, REFERENCE_COLUMNS)
    return np.stack([errors[name].to_numpy() for name in REFERENCE_COLUMNS], axis=1)


def with_reference_errors(visits: pa.Table, store: RowStore) -> pa.Table:
    """The visits with their errors in the store. InputError if it lacks one."""
    store.refresh()
    errors = store.get(reference_keys(visits), REFERENCE_COLUMNS)
    for name in REFERENCE_COLUMNS:
        visits = visits.set_column(visits.schema.get_field_index(name), VISITS.field(name), errors[name])
    return visits


def reference_family(config: RunConfig, inverter: Models | None = None) -> dict[str, Any]:
    """What all errors of a store share: whatever changes their last bits is part of it, but for the CPU's own kind."""
    noise = latent_family(config) if config.score.visits.inversion == "none" else inverted_family(config, inverter)
    return {**noise, **training_weights(config).reference_digests, **_computed(config)}


def draw_store(store: Storage, config: RunConfig, weights: str) -> RowStore:
    """Errors on sampled noise under one UNet, named by its digest: the reference, or a policy snapshot."""
    models = {"model": training_weights(config).base.digest, "reference": weights}
    return RowStore(store, REFERENCES, {**latent_family(config), **models, **_computed(config)})


def _computed(config: RunConfig) -> dict[str, Any]:
    """How errors are computed."""
    return {
        "precision": config.train.precision,
        "batch": config.score.visits.batch,
        "attention": "sdpa",
        "device": config.cluster.device,
    }
