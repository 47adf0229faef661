"""Load diffusion pipelines and their parts, from the hub, a directory or the package itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast, get_args

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.data.framing import centre_cut
from prefopt.diffusion.schedule import NoiseSchedule, PredictionType
from prefopt.errors import InputError
from prefopt.models.families import Pipeline, model_family
from prefopt.models.identity import model_directory

T = TypeVar("T", bound=torch.nn.Module)
MODEL_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_pipeline(model: ModelConfig, dtype: torch.dtype = torch.float32, **components: Any) -> Pipeline:
    """A frozen pipeline in eval mode, with `model.vae` in the place of its own VAE.

    `components` replace parts (a part given as None is not loaded). Raises InputError if the model cannot be found or
    read, or is of no known family. Only safetensors weights are read.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    family = model_family(model)
    if model.vae is not None and "vae" not in components:
        components["vae"] = load_vae(model, dtype)
    with reading(f"the model {model.path!r}"):
        pipeline: Pipeline = family.pipeline.from_pretrained(
            model_directory(model),
            revision=model.revision,
            dtype=dtype,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            **{**family.options, **components},
        )
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return pipeline


def load_vae(model: ModelConfig, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """The frozen VAE of a model, or the one that `model.vae` puts in its place. InputError as `load_pipeline`."""
    with reading(f"the VAE of {model.path!r}" if model.vae is None else f"the VAE {model.vae!r} (model.vae)"):
        vae = AutoencoderKL.from_pretrained(
            **vae_place(model), dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
        )
    return vae.requires_grad_(False).eval()


def vae_place(model: ModelConfig) -> dict[str, Any]:
    """Where a model's VAE lies, as diffusers is told."""
    if model.vae is not None:
        return {"pretrained_model_name_or_path": model.vae}
    return {
        "pretrained_model_name_or_path": model_directory(model),
        "subfolder": "vae",
        "revision": model.revision,
    }


def moved(module: T, device: torch.device | str, dtype: torch.dtype) -> T:
    """A module on a device in a dtype, without the warning that diffusers gives whenever a model is cast."""
    torch.nn.Module.to(module, device, dtype)
    return module


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what diffusers raises for files that are missing, unreadable or of other shapes into InputError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Cannot load {what}: {' '.join(str(error).split())}") from None


def noise_schedule(pipeline: Pipeline) -> NoiseSchedule:
    """The training noise schedule of a pipeline, in float64 from its betas.

    InputError if it is no schedule to train on, as one that ends in pure noise.
    """
    try:
        return NoiseSchedule.from_betas(pipeline.scheduler.betas.double())
    except ValueError as error:
        raise InputError(f"The model's noise schedule cannot be trained on: {error}.") from None


def prediction_type(pipeline: Pipeline) -> PredictionType:
    """What the pipeline's UNet predicts. InputError if it is neither the noise nor the velocity."""
    found = pipeline.scheduler.config.prediction_type
    if found not in get_args(PredictionType):
        raise InputError(
            f"The model's scheduler has prediction_type {found!r}: only epsilon and v_prediction can be trained."
        )
    return cast(PredictionType, found)


@torch.no_grad()
def encode_images(vae: AutoencoderKL, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """Scaled latents, the mode of the VAE's posterior, of pixels in [-1, 1]."""
    latents: torch.Tensor = vae.encode(pixels_BCHW).latent_dist.mode()
    return latents * float(vae.config.scaling_factor)


def cut_image(image: Image.Image, size: Size) -> Image.Image:
    """An image resized to cover `size`, and cut from the middle."""
    if image.size == (size.width, size.height):
        return image
    cut = centre_cut(Size(image.height, image.width), size)
    resized = image.resize((cut.resized.width, cut.resized.height), Image.Resampling.BILINEAR)
    return resized.crop((cut.left, cut.top, cut.left + size.width, cut.top + size.height))


def image_pixels(image: Image.Image, flip: bool = False) -> np.ndarray:
    """An RGB image as float32 [3, H, W] in [-1, 1], mirrored if wanted."""
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    if flip:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
