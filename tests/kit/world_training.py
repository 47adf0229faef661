"""A training stage's inputs from the embedded world: its pictures and the shipped model's latents of them, labels by
the majority's taste, inversions and the reference's errors by the shipped model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import digest
from prefopt.data.schema import PAIRS, SCORES
from prefopt.data.storage import Storage
from prefopt.data.visits import Example, latent_key, plan_visits
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.references import ReferenceErrors
from prefopt.distributed.stores import REFERENCE_COLUMNS, inverted_stores, latent_stores
from prefopt.models.loading import encode_images, load_vae
from prefopt.rewards import reward_spec
from prefopt.stages.base import StageContext
from prefopt.world.annotators import preference
from prefopt.world.dataset import world_pair
from prefopt.world.scenes import render
from prefopt.world.taste import TASTES
from tests.kit.models import SIZE
from tests.kit.stages import finished, pair_row
from tests.kit.training import Reported, training_config

WORLD = Path("world")
NUM_PAIRS = 40
REWARD = "world/taste"


def world_config(store: Path, *, inversion: str = "none", **train: Any) -> RunConfig:
    """`training_config` on the embedded world's model."""
    return training_config(WORLD, store, inversion=inversion, **train)


def world_context(directory: Path, config: RunConfig) -> StageContext:
    """A context whose parents and stores hold what `config` needs. The same config gives the same inputs."""
    pictures = _Pictures()
    train, framing = config.train, Framing((SIZE,), dict.fromkeys(pictures.images, SIZE))
    count = train.steps * train.global_batch
    visits, _ = plan_visits(pictures.examples, count, config.score.visits, 1000, framing, train.micro_batch)
    store = Storage(config.store)
    _fill_latents(store, config, pictures)
    prompts = pa.array([pictures.prompts[pair] for pair in visits["pair_id"].to_pylist()])
    if config.score.visits.inversion != "none":
        _fill_inversions(store, config, visits.append_column("prompt", prompts))
    if config.train.reference == "cached":
        visits = _with_reference_errors(store, config, visits, prompts)
    tables = {"visits-00000": visits, "scores-00000": pa.Table.from_pylist(pictures.scores, schema=SCORES)}
    ingested = {"pairs-00000": pa.Table.from_pylist(pictures.pairs, schema=PAIRS)}
    return StageContext(
        config=config,
        sources=(),
        parents={
            "ingest": finished(directory / "ingest", "ingest", ingested),
            "score": finished(directory / "score", "score", tables),
        },
        output=Storage(str(directory / "train")),
        store=store,
        logs=Storage(str(directory / "logs")),
        progress=Reported(),
    )


class _Pictures:
    """Some pairs of the world, and what is known of them."""

    def __init__(self) -> None:
        self.pairs: list[dict[str, Any]] = []
        self.examples: list[Example] = []
        self.scores: list[dict[str, Any]] = []
        self.prompts: dict[str, str] = {}
        self.images: dict[str, np.ndarray] = {}
        reward = reward_spec(REWARD).load()
        for index in range(NUM_PAIRS):
            drawn = world_pair(0, index)
            row = pair_row(index, drawn.prompt, "train")
            names = (digest("image", str(index), name) for name in ("a", "b"))
            scenes = dict(zip(names, (drawn.first, drawn.second), strict=True))
            images, pair = [row["image_0"], row["image_1"]], row["pair_id"]
            first, second = (scenes[image] for image in images)
            label = float(preference(TASTES["majority"], first, second, drawn.prompt) > 0)
            self.images |= {image: render(scene) for image, scene in scenes.items()}
            liked = reward.score([self.images[image] for image in images], [drawn.prompt] * 2)  # type: ignore[list-item]
            self.pairs.append(row)
            self.prompts[pair] = drawn.prompt
            self.examples.append(Example(pair, digest("vote", pair), 0, 1, label, *images))
            self.scores.append(_score(pair, float(liked[0] - liked[1])))


def _score(pair_id: str, margin: float) -> dict[str, Any]:
    alpha = 1.0 / (1.0 + float(np.exp(-margin)))
    nothing = dict.fromkeys(("confidence", "stability", "u", "panel_majority", "margins"))
    return {"pair_id": pair_id, "alpha": alpha, "vote_share": 1.0, **nothing}


def _fill_latents(store: Storage, config: RunConfig, pictures: _Pictures) -> None:
    latents = latent_stores(store, config)[SIZE]
    latents.refresh()
    wanted = {latent_key(image, flip): (image, flip) for image in pictures.images for flip in (False, True)}
    missing = latents.missing(wanted)
    if not missing:
        return
    pixels = np.stack([_pixels(pictures.images[image], flip) for image, flip in (wanted[key] for key in missing)])
    encoded = encode_images(load_vae(config.model), torch.from_numpy(pixels)).numpy()
    latents.append(pa.table({"key": missing, "x0": [latents.pack(latent, "a picture") for latent in encoded]}))


def _pixels(image: np.ndarray, flip: bool) -> np.ndarray:
    values = image.astype(np.float32) / 127.5 - 1.0
    return np.ascontiguousarray((values[:, ::-1] if flip else values).transpose(2, 0, 1))


def _fill_inversions(store: Storage, config: RunConfig, visits: pa.Table) -> None:
    inverted = inverted_stores(store, config)[SIZE]
    inverted.refresh()
    if not inverted.missing(visits["inverted_key"].to_pylist()):
        return
    work = store.child("work")
    work.write_table("inversions.parquet", visits)
    InvertVisits(config, store, work)({"start": 0, "count": visits.num_rows})
    work.delete("")


def _with_reference_errors(store: Storage, config: RunConfig, visits: pa.Table, prompts: pa.Array) -> pa.Table:
    texts = prompts.dictionary_encode()
    indexed = visits.append_column("prompt", texts.indices)
    errors = ReferenceErrors(config, store, torch.device("cpu")).measure(indexed, texts.dictionary.to_pylist())
    for name, column in zip(REFERENCE_COLUMNS, errors.T, strict=True):
        visits = visits.set_column(visits.schema.get_field_index(name), visits.schema.field(name), pa.array(column))
    return visits
