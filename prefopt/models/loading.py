"""Load diffusion pipelines and their parts, from the hub, a directory or the package itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from prefopt.config.root import ModelConfig
from prefopt.diffusion.schedule import NoiseSchedule
from prefopt.errors import InputError
from prefopt.models.identity import model_directory

MODEL_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_pipeline(model: ModelConfig, dtype: torch.dtype = torch.float32, **components: Any) -> StableDiffusionPipeline:
    """A frozen pipeline in eval mode. `components` replace parts (a part given as None is not loaded).

    Raises InputError if the model cannot be found or read. Only safetensors weights are read.
    """
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            model_directory(model),
            revision=model.revision,
            dtype=dtype,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
            low_cpu_mem_usage=False,
            **components,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the model {model.path!r}: {' '.join(str(error).split())}") from None
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return pipeline


def noise_schedule(pipeline: StableDiffusionPipeline) -> NoiseSchedule:
    """The training noise schedule of a pipeline, in float64 from its betas."""
    return NoiseSchedule.from_betas(pipeline.scheduler.betas.double())


@torch.no_grad()
def encode_prompts(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> torch.Tensor:
    """Text embeddings [B, tokens, width] of prompts, padded and truncated to the tokenizer's length."""
    tokens = pipeline.tokenizer(
        list(prompts),
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    embeddings: torch.Tensor = pipeline.text_encoder(tokens.input_ids.to(pipeline.text_encoder.device))[0]
    return embeddings


@torch.no_grad()
def encode_images(pipeline: StableDiffusionPipeline, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """Scaled latents, the mode of the VAE's posterior, of pixels in [-1, 1]."""
    latents: torch.Tensor = pipeline.vae.encode(pixels_BCHW).latent_dist.mode()
    return latents * float(pipeline.vae.config.scaling_factor)


def image_pixels(image: Image.Image, resolution: int, flip: bool = False) -> np.ndarray:
    """An RGB image as float32 [3, H, W] in [-1, 1]: shorter side resized to `resolution`, centre crop, mirrored."""
    width, height = image.size
    if (width, height) != (resolution, resolution):
        scale = resolution / min(width, height)
        size = (max(resolution, round(width * scale)), max(resolution, round(height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
        image = image.crop((left, top, left + resolution, top + resolution))
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    if flip:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
