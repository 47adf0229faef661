"""Implicit accuracy on held-out pairs: does the tuned model prefer the winner more than its base does?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prefopt.config.base import Size
from prefopt.config.score import SizeConditioning
from prefopt.data.framing import Framing, time_ids
from prefopt.data.ids import row_normal, row_uniform
from prefopt.data.labels import TIE, vote_share
from prefopt.data.store import LatentStore
from prefopt.data.visits import latent_key, timestep_at
from prefopt.diffusion import add_noise, denoising_error, error_gap, prediction_target
from prefopt.models.families import Conditioning, Pipeline, encode_prompts, predict
from prefopt.models.loading import noise_schedule, prediction_type


@dataclass(frozen=True)
class HeldoutPair:
    """A test pair whose votes name a winner."""

    pair_id: str
    prompt: str
    winner: str
    loser: str
    """Image ids."""
    winner_sizes: tuple[int, ...]
    loser_sizes: tuple[int, ...]
    """What SDXL is told of the images' sizes: its time ids, of which the last two are the bucket."""

    @property
    def bucket(self) -> Size:
        """The size of both latents."""
        return Size(*self.winner_sizes[-2:])


def heldout_pairs(
    pairs: Iterable[Mapping[str, Any]],
    votes: Iterable[Mapping[str, Any]],
    framing: Framing,
    told: SizeConditioning,
    *,
    most: int,
    seed: int,
) -> list[HeldoutPair]:
    """At most `most` of the pairs, the first in hash order, labelled by the majority of their latest votes.

    Pairs without a majority are left out. Rows are those of PAIRS and VOTES.
    """
    chosen = {row["pair_id"]: row for row in pairs}
    labels: dict[str, list[float]] = {}
    for vote in votes:
        if vote["latest"] and vote["pair_id"] in chosen:
            labels.setdefault(vote["pair_id"], []).append(vote["label"])
    decided = {pair: vote_share(given) for pair, given in labels.items() if vote_share(given) != TIE}
    order = sorted(decided, key=lambda pair: (row_uniform(seed, "accuracy order", pair), pair))
    return [_labelled(chosen[pair], decided[pair], framing, told) for pair in order[:most]]


def _labelled(row: Mapping[str, Any], share: float, framing: Framing, told: SizeConditioning) -> HeldoutPair:
    images = (row["image_0"], row["image_1"])
    bucket = framing.bucket(*images)
    winner, loser = images if share > TIE else images[::-1]
    sizes = [time_ids(framing.originals[i], framing.crop(i, bucket, False), bucket, told) for i in (winner, loser)]
    return HeldoutPair(row["pair_id"], row["prompt"], winner, loser, *sizes)


def accuracy_points(z: np.ndarray) -> np.ndarray:
    """1 where z > 0, 1/2 where z is exactly 0, else 0."""
    return np.asarray(0.5 * (np.sign(z) + 1.0))


class HeldoutGaps:
    """Error gaps z of a tuned model against its base on held-out pairs, in padded batches of a fixed size."""

    def __init__(
        self,
        base: Pipeline,
        tuned: Pipeline,
        latents: Mapping[Size, LatentStore],
        *,
        batch: int,
        seed: int,
        timestep_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._range = timestep_range
        self._base, self._tuned, self._latents = base, tuned, latents
        self._batch, self._seed = batch, seed
        self._schedule = noise_schedule(base)
        self._prediction_type = prediction_type(base)

    def measure(self, pairs: Sequence[HeldoutPair], draws: int) -> list[dict[str, Any]]:
        """A row (pair_id, draw, t, z) for every pair and draw. InputError if the store lacks a latent.

        Both images share the timestep and the noise, which are functions of (seed, pair, draw).
        """
        rows = [(pair, draw) for pair in pairs for draw in range(draws)]
        measured: dict[int, dict[str, Any]] = {}
        for bucket in dict.fromkeys(pair.bucket for pair in pairs):
            places = [place for place, (pair, _) in enumerate(rows) if pair.bucket == bucket]
            for start in range(0, len(places), self._batch):
                chosen = places[start : start + self._batch]
                padded = [*chosen, *[chosen[-1]] * (self._batch - len(chosen))]
                measured |= zip(chosen, self._gaps(bucket, [rows[place] for place in padded]), strict=False)
        return [measured[place] for place in range(len(rows))]

    @torch.no_grad()
    def _gaps(self, bucket: Size, rows: list[tuple[HeldoutPair, int]]) -> list[dict[str, Any]]:
        def uniform(pair: HeldoutPair, draw: int) -> float:
            return row_uniform(self._seed, "accuracy timestep", pair.pair_id, draw)

        winners = self._read(bucket, [pair.winner for pair, _ in rows])
        losers = self._read(bucket, [pair.loser for pair, _ in rows])
        shape = tuple(winners.shape[1:])
        noise = np.stack([row_normal(shape, self._seed, "accuracy noise", p.pair_id, d) for p, d in rows])
        t = torch.tensor([timestep_at(uniform(*row), self._range, self._schedule.num_steps) for row in rows])
        told = encode_prompts(self._base, [pair.prompt for pair, _ in rows])
        sides = [
            (winners, told.sized(np.asarray([pair.winner_sizes for pair, _ in rows]))),
            (losers, told.sized(np.asarray([pair.loser_sizes for pair, _ in rows]))),
        ]
        reference, policy = (
            [self._errors(pipeline, x0, torch.from_numpy(noise), t, told) for x0, told in sides]
            for pipeline in (self._base, self._tuned)
        )
        z = error_gap(*reference, *policy).double()
        return [
            {"pair_id": pair.pair_id, "draw": draw, "t": int(at), "z": float(gap)}
            for (pair, draw), at, gap in zip(rows, t, z, strict=True)
        ]

    def _read(self, bucket: Size, images: list[str]) -> torch.Tensor:
        return torch.from_numpy(self._latents[bucket].latents([latent_key(image, False) for image in images], "x0"))

    def _errors(
        self,
        pipeline: Pipeline,
        x0: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        told: Conditioning,
    ) -> torch.Tensor:
        device, dtype = pipeline.unet.device, pipeline.unet.dtype
        noised = add_noise(x0, noise, t, self._schedule).to(device, dtype)
        predicted = predict(pipeline.unet, noised, t.to(device), told.to(device, dtype))
        target = prediction_target(x0, noise, t, self._schedule, self._prediction_type)
        return denoising_error(predicted.cpu(), target)
