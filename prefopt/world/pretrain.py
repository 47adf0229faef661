"""Pre-trains the world's Stable Diffusion model (prefopt).

First the VAE, then text encoder and UNet together.

python -m prefopt.world.pretrain --out DIR [--vae-steps N] [--steps N] [--images N] [--seed S] [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prefopt.world.model import build_pipeline, vocabulary
from prefopt.world.scenes import render, sample_prompt, sample_scene

logger = logging.getLogger(__name__)

VAE_BATCH = 16
BATCH = 64
VAE_LR = 2e-3
LR = 1.5e-3
KL_WEIGHT = 3e-4
EMPTY_PROMPT = 0.1
LOSS_WINDOW = 20
VAE_STEPS = 7000
STEPS = 4200
IMAGES = 16000


@dataclass(frozen=True)
class PretrainReport:
    """Mean losses over the first and the last steps of both phases, and the latent scale that was measured."""

    vae_first: float
    vae_last: float
    unet_first: float
    unet_last: float
    scaling_factor: float


def training_images(count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Draw pictures uint8 [count, 3, 32, 32] of the world and their captions, unfaithful ones included."""
    rng = np.random.default_rng([seed, 0])
    images, captions = [], []
    for _ in range(count):
        prompt = sample_prompt(rng)
        images.append(render(sample_scene(rng, prompt)))
        captions.append(prompt.text)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), captions


def pretrain(
    out: Path,
    *,
    vae_steps: int = VAE_STEPS,
    steps: int = STEPS,
    images: int = IMAGES,
    seed: int = 0,
    batch: int = BATCH,
) -> PretrainReport:
    """Train a pipeline from nothing and save it in diffusers format below `out`.

    Deterministic for a seed on one thread of one kind of CPU.
    """
    pipeline = build_pipeline(seed)
    pictures, captions = training_images(images, seed)
    vae_losses = train_vae(pipeline.vae, pictures, vae_steps, seed)
    latents, scale = encode_all(pipeline.vae, pictures)
    pipeline.vae.register_to_config(scaling_factor=scale)
    logger.info("vae: loss %.4f, latent scale %.4f", vae_losses[-1], scale)
    losses = train_unet(pipeline, latents * scale, captions, steps, seed, batch)
    save(pipeline, out)
    report = PretrainReport(
        vae_first=_mean(vae_losses[:LOSS_WINDOW]),
        vae_last=_mean(vae_losses[-LOSS_WINDOW:]),
        unet_first=_mean(losses[:LOSS_WINDOW]),
        unet_last=_mean(losses[-LOSS_WINDOW:]),
        scaling_factor=scale,
    )
    (out / "pretraining.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def train_vae(vae: Any, pictures: Tensor, steps: int, seed: int) -> list[float]:
    """Fit the VAE to pictures; absolute error plus a small Kullback-Leibler term. Returns the loss per step."""
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=VAE_LR, weight_decay=0.0)
    schedule = _cosine(optimizer, steps)
    vae.train()
    losses: list[float] = []
    for rows in _batches(len(pictures), VAE_BATCH, steps, generator):
        x = _to_model(pictures[rows])
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = F.l1_loss(decoded, x) + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        _step(loss, optimizer, schedule)
        losses.append(float(loss.detach()))
        _report("vae", losses, steps)
    vae.eval()
    return losses


@torch.no_grad()
def encode_all(vae: Any, pictures: Tensor, batch: int = 64) -> tuple[Tensor, float]:
    """Modes of the VAE's posterior for pictures, and the factor that gives them unit standard deviation."""
    latents = torch.cat([vae.encode(_to_model(part)).latent_dist.mode() for part in torch.split(pictures, batch)])
    return latents, float(1.0 / latents.std())


def train_unet(
    pipeline: Any, latents: Tensor, captions: list[str], steps: int, seed: int, batch: int = BATCH
) -> list[float]:
    """Fit UNet and text encoder to predict the noise; a tenth of the prompts are empty. Returns the losses."""
    generator = torch.Generator().manual_seed(seed + 2)
    scheduler, text_encoder, unet = pipeline.scheduler, pipeline.text_encoder, pipeline.unet
    tokens = _tokenise(pipeline.tokenizer, captions)
    empty = _tokenise(pipeline.tokenizer, [""])
    weights = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LR, weight_decay=1e-3)
    schedule = _cosine(optimizer, steps)
    unet.train()
    text_encoder.train()
    losses: list[float] = []
    for rows in _batches(len(latents), batch, steps, generator):
        dropped = torch.rand(len(rows), 1, generator=generator) < EMPTY_PROMPT
        ids = torch.where(dropped, empty, tokens[rows])
        noise = torch.randn(latents[rows].shape, generator=generator)
        t = torch.randint(scheduler.config.num_train_timesteps, (len(rows),), generator=generator)
        noisy = scheduler.add_noise(latents[rows], noise, t)
        predicted = unet(noisy, t, text_encoder(ids)[0]).sample
        loss = F.mse_loss(predicted, noise)
        _step(loss, optimizer, schedule, weights)
        losses.append(float(loss.detach()))
        _report("unet", losses, steps)
    unet.eval()
    text_encoder.eval()
    return losses


def save(pipeline: Any, out: Path) -> None:
    """Write the pipeline as safetensors, with the tokenizer's plain vocabulary beside its own format."""
    pipeline.save_pretrained(out, safe_serialization=True)
    vocab, merges = vocabulary()
    (out / "tokenizer" / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (out / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def _tokenise(tokenizer: Any, texts: list[str]) -> Tensor:
    batch = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    ids: Tensor = batch.input_ids
    return ids


def _to_model(pictures: Tensor) -> Tensor:
    return pictures.float() / 127.5 - 1.0


def _batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(steps):
        yield torch.randint(count, (size,), generator=generator)


def _cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    warmup = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    clip: list[torch.nn.Parameter] | None = None,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(clip, 1.0)
    optimizer.step()
    schedule.step()


def _report(name: str, losses: list[float], steps: int) -> None:
    if len(losses) % 100 == 0:
        logger.info("%s %d/%d: loss %.4f", name, len(losses), steps, _mean(losses[-100:]))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def main(arguments: list[str] | None = None) -> None:
    """Command line of the script."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded world's model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vae-steps", type=int, default=VAE_STEPS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    if options.quick:
        options.vae_steps, options.steps, options.images = 60, 60, 256
    report = pretrain(
        options.out,
        vae_steps=options.vae_steps,
        steps=options.steps,
        images=options.images,
        seed=options.seed,
    )
    logger.info(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
