"""The sampler: which pair is visited when, and everything random about each visit, fixed beforehand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config.score import VisitConfig
from prefopt.data.ids import digest, row_normal, row_uniform
from prefopt.data.schema import VISITS
from prefopt.data.store import RowStore, unpack_arrays

LATENT_DTYPE = "float32"


@dataclass(frozen=True)
class Example:
    """One labelled pair: a vote, or a pair's label by rule. label = P(image_0 wins)."""

    pair_id: str
    vote_id: str
    ordinal: int
    """Which of the pair's examples this is, counted from 0."""
    of: int
    """How many examples the pair has."""
    label: float
    image_0: str
    image_1: str


def plan_visits(examples: Sequence[Example], count: int, config: VisitConfig, num_timesteps: int) -> pa.Table:
    """The first `count` visits, as a VISITS table.

    Each epoch orders all examples by hash(seed, epoch, pair, ordinal), so that a longer plan extends a shorter
    one. Draw numbers count a pair's visits. Raises ValueError without examples.
    """
    if not examples:
        raise ValueError("there are no examples to visit")
    rows = []
    for position, (epoch, example) in zip(range(count), _order(examples, config.seed), strict=False):
        draw = epoch * example.of + example.ordinal
        rows.append(_visit(position, draw, example, config, num_timesteps))
    return pa.Table.from_pylist(rows, schema=VISITS)


def _order(examples: Sequence[Example], seed: int) -> Iterator[tuple[int, Example]]:
    epoch = 0
    while True:
        keyed = [(row_uniform(seed, "order", epoch, e.pair_id, e.ordinal), e.pair_id, e.ordinal, e) for e in examples]
        for *_, example in sorted(keyed, key=lambda item: item[:3]):
            yield epoch, example
        epoch += 1


def _visit(position: int, draw: int, example: Example, config: VisitConfig, num_timesteps: int) -> dict[str, Any]:
    def uniform(purpose: str) -> float:
        return row_uniform(config.seed, purpose, example.pair_id, draw)

    timestep = int(uniform("timestep") * num_timesteps)
    flip_0, flip_1 = uniform("flip_0") < config.flip, uniform("flip_1") < config.flip
    visit = visit_id(example.pair_id, draw, config.seed)
    drop = uniform("drop_prompt") < config.drop_prompt
    return {
        "position": position,
        "visit_id": visit,
        "pair_id": example.pair_id,
        "draw": draw,
        "vote_id": example.vote_id,
        "label": example.label,
        "t_0": timestep,
        "t_1": timestep,
        "flip_0": flip_0,
        "flip_1": flip_1,
        "drop_prompt": drop,
        "latent_key_0": latent_key(example.image_0, flip_0),
        "latent_key_1": latent_key(example.image_1, flip_1),
        "inverted_key": digest("inverted", visit, str(timestep), str(flip_0), str(flip_1), str(drop))
        if config.inversion != "none"
        else "",
    }


def visit_id(pair_id: str, draw: int, seed: int) -> str:
    """The id of a visit; its noise is `visit_noise` of it."""
    return digest("visit", pair_id, str(draw), str(seed))


def visit_noise(visit: str, shape: Sequence[int]) -> np.ndarray:
    """The noise that both images of a visit share, float32 of the latent's shape."""
    return row_normal(tuple(shape), 0, "noise", visit)


def latent_key(image_id: str, flip: bool) -> str:
    """The key of an image's latent within its store."""
    return digest("x0", image_id, "flip" if flip else "plain")


def latent_store_family(vae_digest: str, resolution: int, latent_shape: Sequence[int]) -> dict[str, Any]:
    """What all latents of a store share."""
    return {
        "vae": vae_digest,
        "resolution": resolution,
        "shape": list(latent_shape),
        "dtype": LATENT_DTYPE,
        "version": 1,
    }


def inverted_store_family(latents: Mapping[str, Any], models: Mapping[str, str], config: VisitConfig) -> dict[str, Any]:
    """What all inverted latents of a store share: what the latents do, and digests of the models that invert them.

    The batch shape is part of it: results depend on it.
    """
    optional = config.model_dump(mode="json", include={"average", "regularisation"}, exclude_none=True)
    return {
        **latents,
        **models,
        **optional,
        "inversion": config.inversion,
        "steps": config.steps,
        "renoise_steps": config.renoise_steps,
        "grid": config.grid,
        "batch": config.batch,
    }


@dataclass(frozen=True)
class VisitBatch:
    """Visits read from the stores. Latents are float32 [B, C, H, W]; xt_* are None when noise is sampled."""

    visit_ids: list[str]
    pair_ids: list[str]
    label: np.ndarray
    t_0: np.ndarray
    t_1: np.ndarray
    drop_prompt: np.ndarray
    x0_0: np.ndarray
    x0_1: np.ndarray
    xt_0: np.ndarray | None
    xt_1: np.ndarray | None

    def noise(self) -> np.ndarray:
        """The sampled noise of each visit, [B, C, H, W]."""
        return np.stack([visit_noise(visit, self.x0_0.shape[1:]) for visit in self.visit_ids])


def read_visits(
    visits: pa.Table, latents: RowStore, inverted: RowStore | None, latent_shape: Sequence[int]
) -> VisitBatch:
    """Read the latents of some rows of a plan. InputError if a store lacks one."""
    columns: Mapping[str, Any] = {name: visits[name].to_pylist() for name in VISITS.names}

    def arrays(store: RowStore, keys: list[str], column: str) -> np.ndarray:
        return unpack_arrays(store.get(keys, [column])[column], latent_shape, LATENT_DTYPE)

    inverted_keys = columns["inverted_key"]
    return VisitBatch(
        visit_ids=columns["visit_id"],
        pair_ids=columns["pair_id"],
        label=np.asarray(columns["label"], dtype=np.float64),
        t_0=np.asarray(columns["t_0"], dtype=np.int64),
        t_1=np.asarray(columns["t_1"], dtype=np.int64),
        drop_prompt=np.asarray(columns["drop_prompt"], dtype=bool),
        x0_0=arrays(latents, columns["latent_key_0"], "x0"),
        x0_1=arrays(latents, columns["latent_key_1"], "x0"),
        xt_0=arrays(inverted, inverted_keys, "xt_0") if inverted else None,
        xt_1=arrays(inverted, inverted_keys, "xt_1") if inverted else None,
    )
