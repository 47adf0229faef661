"""The sampler: which pair is visited when, and everything random about each visit, fixed beforehand."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefopt.config.base import Size
from prefopt.config.score import LatentDtype, SizeConditioning, VisitConfig
from prefopt.data.framing import Framing, time_ids
from prefopt.data.ids import digest, row_normal, row_uniform
from prefopt.data.schema import VISITS
from prefopt.data.store import LatentStore


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True)
class Replay:
    """Old pairs among new ones: how a model goes on from what it has seen."""

    known: frozenset[str]
    """Pairs without a new vote."""
    share: float
    """Of the visits that go to them, where both kinds are there."""
    salt: str
    """What the known pairs are known from: another one takes other pairs first. Their visits are the first ones that a
    training on them made, so that what is stored of these serves again."""


class VisitPlan(NamedTuple):
    """Planned visits, and how many are left over."""

    visits: pa.Table
    """VISITS, in training order."""
    waiting: int
    """Visits that were drawn too, but whose bucket has not filled a micro-batch: a longer plan goes on with them."""


def plan_visits(
    examples: Sequence[Example],
    count: int,
    config: VisitConfig,
    num_timesteps: int,
    framing: Framing,
    micro_batch: int,
    replay: Replay | None = None,
) -> VisitPlan:
    """The first `count` visits, a multiple of `micro_batch`.

    Each epoch draws all examples in the order of hash(seed, epoch, pair, ordinal). Visits wait in their bucket until
    it holds a micro-batch, which then joins the plan: so every micro-batch is of one bucket, a longer plan extends a
    shorter one, and what waits at an epoch's end goes on into the next. With one bucket the plan is the drawn order.
    Draw numbers count a pair's visits. With `replay` new and known examples have orders of their own, which are merged
    evenly. Raises ValueError without examples.
    """
    if not examples:
        raise ValueError("there are no examples to visit")
    assert count % micro_batch == 0, "a plan holds whole micro-batches"
    waiting: dict[Size, list[tuple[int, Example, Size]]] = {size: [] for size in framing.buckets}
    planned: list[tuple[int, Example, Size]] = []
    for epoch, example in _merged(examples, config.seed, replay):
        if len(planned) == count:
            break
        size = framing.bucket(example.image_0, example.image_1)
        waiting[size].append((epoch, example, size))
        if len(waiting[size]) == micro_batch:
            planned += waiting[size]
            waiting[size] = []
    rows = [
        _visit(position, epoch * example.of + example.ordinal, example, config, num_timesteps, size, framing)
        for position, (epoch, example, size) in enumerate(planned)
    ]
    return VisitPlan(pa.Table.from_pylist(rows, schema=VISITS), sum(map(len, waiting.values())))


def _merged(examples: Sequence[Example], seed: int, replay: Replay | None) -> Iterator[tuple[int, Example]]:
    if replay is None:
        return _order(examples, seed, "order")
    known = [example for example in examples if example.pair_id in replay.known]
    new = [example for example in examples if example.pair_id not in replay.known]
    if not new or not known or not replay.share:
        return _order(new or known, seed, "order")
    return _interleaved(_order(new, seed, "order"), _order(known, seed, f"replay {replay.salt}"), replay.share)


def _interleaved(
    new: Iterator[tuple[int, Example]], known: Iterator[tuple[int, Example]], share: float
) -> Iterator[tuple[int, Example]]:
    for place in itertools.count():
        yield next(known if int((place + 1) * share) > int(place * share) else new)


def _order(examples: Sequence[Example], seed: int, purpose: str) -> Iterator[tuple[int, Example]]:
    epoch = 0
    while True:
        keyed = [(row_uniform(seed, purpose, epoch, e.pair_id, e.ordinal), e.pair_id, e.ordinal, e) for e in examples]
        for *_, example in sorted(keyed, key=lambda item: item[:3]):
            yield epoch, example
        epoch += 1


def _visit(
    position: int,
    draw: int,
    example: Example,
    config: VisitConfig,
    num_timesteps: int,
    size: Size,
    framing: Framing,
) -> dict[str, Any]:
    def uniform(purpose: str) -> float:
        return row_uniform(config.seed, purpose, example.pair_id, draw)

    timestep = timestep_at(uniform("timestep"), config.timestep_range, num_timesteps)
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
        "target": size,
        "original_0": framing.originals[example.image_0],
        "original_1": framing.originals[example.image_1],
        "crop_0": framing.crop(example.image_0, size, flip_0),
        "crop_1": framing.crop(example.image_1, size, flip_1),
        "latent_key_0": latent_key(example.image_0, flip_0),
        "latent_key_1": latent_key(example.image_1, flip_1),
        "inverted_key": digest("inverted", visit, str(timestep), str(flip_0), str(flip_1), str(drop))
        if config.inversion != "none"
        else "",
    }


def timestep_at(place: float, within: tuple[float, float], num_timesteps: int) -> int:
    """The timestep at a place in [0, 1) of a part of the schedule."""
    low, high = within
    return min(int((low + place * (high - low)) * num_timesteps), num_timesteps - 1)


def visit_id(pair_id: str, draw: int, seed: int) -> str:
    """The id of a visit; its noise is `visit_noise` of it."""
    return digest("visit", pair_id, str(draw), str(seed))


def visit_noise(visit: str, shape: Sequence[int]) -> np.ndarray:
    """The noise that both images of a visit share, float32 of the latent's shape."""
    return row_normal(tuple(shape), 0, "noise", visit)


def latent_key(image_id: str, flip: bool) -> str:
    """The key of an image's latent within its store."""
    return digest("x0", image_id, "flip" if flip else "plain")


def latent_store_family(vae_digest: str, size: Size, latent_shape: Sequence[int], dtype: LatentDtype) -> dict[str, Any]:
    """What all latents of a store share."""
    return {
        "vae": vae_digest,
        "resolution": size.height if size.height == size.width else list(size),
        "shape": list(latent_shape),
        "dtype": dtype,
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
    """Visits of one bucket, read from its stores. Latents are float32 [B, C, H, W]; xt_* are None when noise is
    sampled."""

    visit_ids: list[str]
    pair_ids: list[str]
    label: np.ndarray
    t_0: np.ndarray
    t_1: np.ndarray
    drop_prompt: np.ndarray
    time_ids_0: np.ndarray
    time_ids_1: np.ndarray
    """What SDXL is told of the images' sizes, int64 [B, 6]."""
    x0_0: np.ndarray
    x0_1: np.ndarray
    xt_0: np.ndarray | None
    xt_1: np.ndarray | None

    @property
    def time_ids(self) -> np.ndarray:
        """[2B, 6]: of every image_0, then of every image_1."""
        return np.concatenate([self.time_ids_0, self.time_ids_1])

    def noise(self) -> np.ndarray:
        """The sampled noise of each visit, [B, C, H, W]."""
        return np.stack([visit_noise(visit, self.x0_0.shape[1:]) for visit in self.visit_ids])


def read_visits(
    visits: pa.Table, latents: LatentStore, inverted: LatentStore | None, told: SizeConditioning
) -> VisitBatch:
    """Read the latents of some rows of a plan, all of the stores' bucket. InputError if a store lacks one."""
    columns: Mapping[str, Any] = {name: visits[name].to_pylist() for name in VISITS.names}

    def sizes(side: int) -> np.ndarray:
        parts = zip(columns[f"original_{side}"], columns[f"crop_{side}"], columns["target"], strict=True)
        return np.asarray([time_ids(*part, told) for part in parts], dtype=np.int64)

    inverted_keys = columns["inverted_key"]
    return VisitBatch(
        visit_ids=columns["visit_id"],
        pair_ids=columns["pair_id"],
        label=np.asarray(columns["label"], dtype=np.float64),
        t_0=np.asarray(columns["t_0"], dtype=np.int64),
        t_1=np.asarray(columns["t_1"], dtype=np.int64),
        drop_prompt=np.asarray(columns["drop_prompt"], dtype=bool),
        time_ids_0=sizes(0),
        time_ids_1=sizes(1),
        x0_0=latents.latents(columns["latent_key_0"], "x0"),
        x0_1=latents.latents(columns["latent_key_1"], "x0"),
        xt_0=inverted.latents(inverted_keys, "xt_0") if inverted else None,
        xt_1=inverted.latents(inverted_keys, "xt_1") if inverted else None,
    )


def bucket_rows(visits: pa.Table) -> dict[Size, list[int]]:
    """Row numbers of each bucket that some visits are of, in the order of the buckets' sizes."""
    rows: dict[Size, list[int]] = {}
    for row, target in enumerate(visits["target"].to_pylist()):
        rows.setdefault(Size(*target), []).append(row)
    return dict(sorted(rows.items()))


def bucket_batches(visits: pa.Table, size: int) -> list[list[int]]:
    """Row numbers of visits in batches of at most `size`, each of one bucket."""
    found = bucket_rows(visits).values()
    return [rows[start : start + size] for rows in found for start in range(0, len(rows), size)]
