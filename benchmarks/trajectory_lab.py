"""Pairs that the embedded world's model drew, with every x_t on the way, and what can be made of them: stand-ins of
x_t from x_0 alone, policies trained on such pairs, and logits, losses and gradients at any x_t.

`benchmarks/trajectories.py` is the study.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from prefopt.config.objective import DpoParams
from prefopt.config.root import ModelConfig
from prefopt.data.ids import row_normal, row_rng
from prefopt.diffusion import (
    NoiseSchedule,
    Predict,
    add_noise,
    ddim_step,
    denoising_error,
    exact_levels,
    invert,
    negative_guidance,
    target_noise,
)
from prefopt.evaluation.generation import initial_noise
from prefopt.evaluation.statistics import Floats
from prefopt.models.families import Conditioning, encode_prompts, predict
from prefopt.models.loading import encode_images, image_pixels, load_pipeline, noise_schedule
from prefopt.objectives import OBJECTIVES, PairErrors
from prefopt.world.rewards import WORLD_REWARDS
from prefopt.world.scenes import all_prompts

SEED = 0
MODEL = ModelConfig(path="world")
BETA = 2000.0
LR = 5e-5
BATCH = 32
CLEAN = -1
"""The level of clean data, below 0."""


@dataclass(frozen=True)
class Size:
    """How much is drawn, trained and measured."""

    pairs: int = 48
    trained: int = 128
    """Pairs that policies learn from, of other prompts."""
    training_steps: int = 40
    levels: tuple[int, ...] = (99, 299, 499, 699, 899)
    sampling_steps: int = 50
    draws: int = 8


@dataclass(frozen=True)
class StandIn:
    """A way from x_0 to an x_t."""

    name: str
    inversion: Mapping[str, Any] | None
    """Settings of `invert`; None is forward diffusion with random noise that a pair shares, as in DPO."""
    own_grid: bool = False
    """Whether the inversion takes the very levels that the image was drawn through."""
    unit: bool = False
    """Whether the noise that was found is scaled to a root mean square of 1, image by image."""
    told_first: bool = False
    """Whether the true x_t of the lowest of these levels is known: DDIM inversion from there on. No one has that."""


RANDOM = StandIn("random noise", None)


@dataclass(frozen=True)
class Pairs:
    """N pairs, winners first and losers after them, in tensors of 2N."""

    prompts: Sequence[str]
    told: Conditioning
    path: Mapping[int, Tensor]
    """The true x_t by level, [2N, C, H, W]; `CLEAN` is x_0."""
    x0: Tensor
    """What stand-ins start from, [2N, C, H, W]."""

    def rows(self, chosen: Sequence[int]) -> "Pairs":
        """Some of the pairs, without their paths."""
        both = [*chosen, *(index + len(self.prompts) for index in chosen)]
        return Pairs([self.prompts[index] for index in chosen], self.told.select(both), {}, self.x0[both])


@torch.no_grad()
def sample(ask: Predict, noise: Tensor, schedule: NoiseSchedule, steps: int) -> dict[int, Tensor]:
    """x_t by level on the way of deterministic DDIM from noise to clean data, evenly spaced levels."""
    levels = [*exact_levels(torch.tensor([schedule.num_steps - 1]), steps).flatten().tolist()[::-1], CLEAN]
    path, x = {levels[0]: noise}, noise
    for level, below in pairwise(levels):
        t = torch.full((len(x),), level)
        reached = torch.ones(len(x), dtype=torch.float64) if below == CLEAN else schedule.levels(t - level + below)
        x = path[below] = ddim_step(x, ask(x, t), schedule.levels(t), reached)
    return path


@torch.no_grad()
def climb(ask: Predict, path: Mapping[int, Tensor], level: int, schedule: NoiseSchedule) -> Tensor:
    """DDIM inversion from the true x_t of the path's lowest noisy level up to another of its levels."""
    below, *above = sorted(at for at in path if CLEAN < at <= level)
    x = path[below]
    for at in above:
        t = torch.full((len(x),), at)
        x, below = ddim_step(x, ask(x, t), schedule.levels(t - at + below), schedule.levels(t)), at
    return x


class Lab:
    """The embedded world's model, which draws pairs and inverts them, and is the policies' reference."""

    def __init__(self, size: Size) -> None:
        self.size, self.pipeline = size, load_pipeline(MODEL)
        self.reference, self.schedule = self.pipeline.unet, noise_schedule(self.pipeline)
        texts = [prompt.text for prompt in all_prompts()]
        order = row_rng(SEED, "trajectories/prompts").permutation(len(texts))
        self.prompts = [texts[index] for index in order]

    def ask(self, x: Tensor, t: Tensor, told: Conditioning) -> Tensor:
        """The model's prediction."""
        return predict(self.reference, x, t, told)

    def draw(self, prompts: Sequence[str], guidance: float = 1.0) -> Pairs:
        """Two images of each prompt, with their paths; the better one by world/true wins."""
        told = encode_prompts(self.pipeline, prompts).repeat(2)
        unprompted = encode_prompts(self.pipeline, [""]).repeat(len(prompts) * 2)

        def ask(x: Tensor, t: Tensor) -> Tensor:
            asked = self.ask(x, t, told)
            return asked if guidance == 1.0 else negative_guidance(asked, self.ask(x, t, unprompted), guidance - 1.0)

        unet = self.reference.config
        shape = (unet.in_channels, unet.sample_size, unet.sample_size)
        noise = [initial_noise(shape, SEED, prompt, number) for number in range(2) for prompt in prompts]
        path = sample(ask, torch.from_numpy(np.stack(noise)), self.schedule, self.size.sampling_steps)
        scores = WORLD_REWARDS["world/true"]().score(self.images(path[CLEAN]), [*prompts, *prompts])
        first = torch.from_numpy(scores[: len(prompts)] >= scores[len(prompts) :])
        number = torch.arange(len(prompts))
        winner = torch.where(first, number, number + len(prompts))
        order = torch.cat([winner, (winner + len(prompts)) % (2 * len(prompts))])
        path = {level: x[order] for level, x in path.items()}
        return Pairs(prompts, told, path, path[CLEAN])

    @torch.no_grad()
    def images(self, latents: Tensor) -> list[Image.Image]:
        """What latents look like."""
        vae = self.pipeline.vae
        images: list[Image.Image] = self.pipeline.image_processor.postprocess(
            vae.decode(latents / vae.config.scaling_factor).sample
        )
        return images

    def seen_as_pictures(self, pairs: Pairs) -> Pairs:
        """The same pairs, of which the images are known and not the latents."""
        pixels = np.stack([image_pixels(image) for image in self.images(pairs.path[CLEAN])])
        return replace(pairs, x0=encode_images(self.pipeline.vae, torch.from_numpy(pixels)))

    def stand_in(self, how: StandIn, pairs: Pairs, t: Tensor, row: tuple[str | int, ...]) -> Tensor:
        """x_t [2N, C, H, W] at levels t [2N]; `row` names the draw."""
        if how.inversion is None:
            shape = tuple(pairs.x0.shape[1:])
            drawn = [row_normal(shape, SEED, "trajectories/noise", prompt, *row) for prompt in pairs.prompts]
            return add_noise(pairs.x0, torch.from_numpy(np.stack(drawn)).repeat(2, 1, 1, 1), t, self.schedule)
        if how.told_first:
            return climb(partial(self.ask, told=pairs.told), pairs.path, int(t[0]), self.schedule)
        settings = dict(how.inversion)
        if how.own_grid:
            settings["num_steps"] = (int(t[0]) + 1) * self.size.sampling_steps // self.schedule.num_steps
        xt = invert(partial(self.ask, told=pairs.told), pairs.x0, t, self.schedule, **settings)
        if not how.unit:
            return xt
        noise = target_noise(pairs.x0, xt, t, self.schedule)
        return add_noise(pairs.x0, noise / noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt(), t, self.schedule)

    @torch.no_grad()
    def reference_errors(self, pairs: Pairs, xt: Tensor, t: Tensor) -> Tensor:
        """The reference's denoising errors at x_t, [2N]."""
        return denoising_error(self.ask(xt, t, pairs.told), target_noise(pairs.x0, xt, t, self.schedule))

    def objective(self, policy: Any, pairs: Pairs, xt: Tensor, t: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """DPO's logit and loss of each pair, [N], with gradient; `known` are the reference's errors."""
        target = target_noise(pairs.x0, xt, t, self.schedule)
        errors = denoising_error(predict(policy, xt, t, pairs.told), target)
        result = OBJECTIVES["dpo"](PairErrors(*errors.chunk(2), *known.chunk(2)), DpoParams(beta=BETA))
        return torch.as_tensor(result.metrics["logit"]), result.loss

    def train(self, pairs: Pairs, how: StandIn) -> Any:
        """A copy of the model after some steps of DPO on x_t of that kind, at uniform t."""
        policy = copy.deepcopy(self.reference).requires_grad_(True)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=LR)
        for step in range(self.size.training_steps):
            rng = row_rng(SEED, "trajectories/step", step)
            chosen = pairs.rows(rng.choice(len(pairs.prompts), min(BATCH, len(pairs.prompts)), replace=False).tolist())
            t = torch.from_numpy(rng.integers(self.schedule.num_steps, size=len(chosen.prompts))).repeat(2)
            xt = self.stand_in(how, chosen, t, ("training", step))
            _, loss = self.objective(policy, chosen, xt, t, self.reference_errors(chosen, xt, t))
            optimizer.zero_grad()
            torch.autograd.backward(loss.mean())
            optimizer.step()
        return policy.requires_grad_(False)


@dataclass(frozen=True)
class Look:
    """What one kind of x_t looks like at one level; the mean of several draws has neither x_t nor noise."""

    logit: Floats
    """[N]."""
    loss: Floats
    gradients: Tensor
    """Of each pair's loss by all of the policy's weights, float32 [N, P]."""
    residual: Floats
    """Root of the reference's denoising error, [N]: how far its prediction is from the noise."""
    xt: Tensor | None = None
    noise: Tensor | None = None


def look(lab: Lab, policy: Any, pairs: Pairs, xt: Tensor, level: int) -> Look:
    """Logits, losses and gradients of all pairs at some x_t [2N, C, H, W]."""
    weights, n = list(policy.requires_grad_(True).parameters()), len(pairs.prompts)
    t = torch.full((2 * n,), level)
    known = lab.reference_errors(pairs, xt, t)
    found, slopes = [], []
    for index in range(n):
        rows = [index, index + n]
        logit, loss = lab.objective(policy, pairs.rows([index]), xt[rows], t[rows], known[rows])
        slopes.append(torch.cat([slope.flatten() for slope in torch.autograd.grad(loss.sum(), weights)]))
        found.append((float(logit), float(loss.detach())))
    logits, losses = np.array(found).T
    residual = _by_pair(known).sqrt().numpy()
    return Look(logits, losses, torch.stack(slopes), residual, xt, target_noise(pairs.x0, xt, t, lab.schedule))


def mean_of(looks: Sequence[Look]) -> Look:
    """The mean over draws: of an objective that averages over them."""
    gradients = sum((one.gradients for one in looks[1:]), start=looks[0].gradients) / len(looks)
    logit, loss, residual = (
        np.mean([getattr(one, name) for one in looks], axis=0) for name in ("logit", "loss", "residual")
    )
    return Look(logit, loss, gradients, residual)


@dataclass(frozen=True)
class Held:
    """One kind of x_t held against the true one at one level: [N] of pairs, [N, N] of inner products of gradients."""

    pairs: Mapping[str, Floats]
    logit: Floats
    true_logit: Floats
    cross: Floats
    """<gradient of pair i here, gradient of pair j at the true x_t>."""
    own: Floats
    true: Floats


def hold(found: Look, truth: Look) -> Held:
    """Compare with the truth."""
    values = {
        "logit_error": np.abs(found.logit - truth.logit),
        "loss_error": np.abs(found.loss - truth.loss),
        "residual": found.residual,
        "true_residual": truth.residual,
        "gradient_cosine": cosine_similarity(found.gradients, truth.gradients, dim=1).double().numpy(),
    }
    if found.xt is not None and found.noise is not None and truth.xt is not None and truth.noise is not None:
        away, true = (found.xt - truth.xt).flatten(1).norm(dim=1), truth.xt.flatten(1).norm(dim=1)
        cosine = cosine_similarity(found.noise.flatten(1), truth.noise.flatten(1), dim=1)
        values["distance"] = _by_pair(away / true).numpy()
        values["noise_cosine"] = _by_pair(cosine).numpy()
        for name, noise in {"noise_rms": found.noise, "true_noise_rms": truth.noise}.items():
            values[name] = _by_pair(noise.square().flatten(1).mean(dim=1).sqrt()).numpy()
    products = [(a.gradients @ b.gradients.T).double().numpy() for a, b in ((found, truth), (found, found))]
    return Held(values, found.logit, truth.logit, *products, (truth.gradients @ truth.gradients.T).double().numpy())


def _by_pair(images: Tensor) -> Tensor:
    return images.double().reshape(2, -1).mean(dim=0)


def variances(looks: Sequence[Look]) -> tuple[Floats, Floats]:
    """Of every pair's gradient, summed over weights: the variance of one draw of the noise, without bias, and that of
    the mean of all; [N] each."""
    average = mean_of(looks).gradients
    away = sum((one.gradients - average).square().sum(dim=1).double() for one in looks) / (len(looks) - 1)
    found = torch.as_tensor(away).numpy()
    return found, found / len(looks)
