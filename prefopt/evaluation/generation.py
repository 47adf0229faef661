"""Images for (prompt, sample): the same initial noise for every model, in padded batches of a fixed size."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from PIL import Image

from prefopt.config.evaluate import SamplerConfig
from prefopt.config.root import ModelConfig
from prefopt.data.ids import row_normal
from prefopt.errors import ConfigError, GuardError
from prefopt.models.families import Pipeline
from prefopt.models.loading import load_pipeline, moved
from prefopt.models.sources import WeightsSource
from prefopt.models.unets import load_adapter, load_unet

Task = tuple[str, int]
"""A prompt and the number of its sample."""


def initial_noise(shape: tuple[int, ...], seed: int, prompt: str, sample: int) -> np.ndarray:
    """The noise that a sample starts from, float32 of the latent's shape; it does not know the model."""
    return row_normal(shape, seed, "initial noise", prompt, sample)


_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "euler": (EulerDiscreteScheduler, {}),
}
"""Samplers without randomness of their own, and what makes them so or is usual of them. As diffusers calls them by
default, DDIM and Euler add no noise."""


def make_scheduler(name: str, own: Any) -> Any:
    """A sampler without randomness of its own, with the noise schedule of `own`, a pipeline's scheduler.

    `own` is a name, too: then the pipeline's scheduler is taken as it is. ValueError for another name; ConfigError if
    the pipeline's own may draw noise, or is not known.
    """
    if name == "own":
        return _own(own)
    if name not in _SCHEDULERS:
        raise ValueError(f"scheduler must be {', '.join(_SCHEDULERS)} or own, got {name!r}")
    kind, settings = _SCHEDULERS[name]
    return kind.from_config(own.config, **settings)


def _own(own: Any) -> Any:
    kinds = {kind for kind, _ in _SCHEDULERS.values()}
    if type(own) not in kinds or "sde" in own.config.get("algorithm_type", ""):
        raise ConfigError(
            f"sampler.scheduler is own, but the model's {type(own).__name__} may draw noise of its own, or is not known"
            f" here: choose {', '.join(_SCHEDULERS)}."
        )
    return type(own).from_config(own.config)


def with_weights(base: Pipeline, model: ModelConfig, weights: WeightsSource, onto: WeightsSource) -> Pipeline:
    """The pipeline of `model`, which `onto` describes, with the UNet or the adapters of a source in it; its other parts
    are shared. InputError as `prefopt.models.unets.load_unet`."""
    shared = {name: part for name, part in base.components.items() if name not in ("unet", "scheduler")}
    unet = load_unet(weights.below, onto)
    if weights.onto is not None:
        load_adapter(unet, weights, "compared")
    return load_pipeline(model, unet=moved(unet, base.unet.device, base.unet.dtype), **shared)


class ImageGenerator:
    """Draws images with one pipeline. An image depends on its prompt, sample, seed and the batch's size alone."""

    def __init__(
        self, pipeline: Pipeline, sampler: SamplerConfig, *, batch: int, seed: int, field: str = "evaluate.sampler"
    ) -> None:
        """Raises ConfigError if the resolution is not a multiple of the VAE's factor; `field` names the sampler."""
        factor = pipeline.vae_scale_factor
        if sampler.resolution % factor:
            raise ConfigError(
                f"{field}.resolution {sampler.resolution} is not a multiple of the VAE's factor {factor}."
            )
        pipeline.scheduler = make_scheduler(sampler.scheduler, pipeline.scheduler)
        side = sampler.resolution // factor
        self._shape = (int(pipeline.unet.config.in_channels), side, side)
        self._pipeline, self._sampler, self._batch, self._seed = pipeline, sampler, batch, seed

    def batches(self, tasks: Sequence[Task]) -> Iterator[tuple[Sequence[Task], list[Image.Image]]]:
        """Tasks and their RGB images, a batch at a time. GuardError if the model gives numbers that are not finite."""
        for start in range(0, len(tasks), self._batch):
            chosen = tasks[start : start + self._batch]
            yield chosen, self._draw([*chosen, *[chosen[-1]] * (self._batch - len(chosen))])[: len(chosen)]

    def images(self, tasks: Sequence[Task]) -> list[Image.Image]:
        """The images of all tasks."""
        return [image for _, images in self.batches(tasks) for image in images]

    @torch.no_grad()
    def _draw(self, tasks: Sequence[Task]) -> list[Image.Image]:
        noise = np.stack([initial_noise(self._shape, self._seed, prompt, sample) for prompt, sample in tasks])
        unet, sampler = self._pipeline.unet, self._sampler
        pixels = self._pipeline(
            prompt=[prompt for prompt, _ in tasks],
            latents=torch.from_numpy(noise).to(unet.device, unet.dtype),
            num_inference_steps=sampler.steps,
            guidance_scale=sampler.guidance,
            height=sampler.resolution,
            width=sampler.resolution,
            output_type="np",
        ).images
        if not np.isfinite(pixels).all():
            raise GuardError(
                "The model draws images that are not finite numbers: training has broken it. Lower"
                " train.optimizer.lr or train.steps and train again."
            )
        images: list[Image.Image] = self._pipeline.image_processor.numpy_to_pil(pixels)
        return images


def png_bytes(image: Image.Image) -> bytes:
    """An image as PNG: lossless, the same bytes for the same pixels."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def open_png(data: bytes) -> Image.Image:
    """The RGB image of `png_bytes`."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return image.convert("RGB")
