"""The model families that are trained, SD1.5 and SDXL: how each encodes prompts, and what its UNet is told."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from prefopt.config.root import ModelConfig
from prefopt.errors import InputError
from prefopt.models.identity import model_directory

Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline


@dataclass(frozen=True)
class Conditioning:
    """What a UNet is told besides the noisy latents and the timestep. B rows, one per image."""

    states: Tensor
    """Text embeddings [B, tokens, width]."""
    pooled: Tensor | None = None
    """Pooled text embeddings [B, width], of SDXL."""
    time_ids: Tensor | None = None
    """Original size, crop corner and target size in pixels, float32 [B, 6], of SDXL: see `sized`."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Conditioning":
        """The same change of every tensor."""
        pooled, time_ids = (None if part is None else change(part) for part in (self.pooled, self.time_ids))
        return Conditioning(change(self.states), pooled, time_ids)

    def repeat(self, times: int) -> "Conditioning":
        """All rows, then all rows again."""
        return self.map(lambda part: part.repeat(times, *[1] * (part.dim() - 1)))

    def sized(self, time_ids: np.ndarray | Tensor) -> "Conditioning":
        """For images with these time ids [B, 6]; unchanged where the family is not told sizes."""
        if self.pooled is None:
            return self
        return replace(self, time_ids=torch.as_tensor(time_ids, dtype=torch.float32, device=self.states.device))

    def select(self, rows: Sequence[int] | Tensor) -> "Conditioning":
        """Some rows, in this order."""
        return self.map(lambda part: part[torch.as_tensor(rows, device=part.device)])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Conditioning":
        """On another device; embeddings in another dtype if one is given, time ids in float32 as they are."""
        moved = self.map(lambda part: part.to(device))
        if dtype is None:
            return moved
        pooled = None if moved.pooled is None else moved.pooled.to(dtype)
        return Conditioning(moved.states.to(dtype), pooled, moved.time_ids)

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """The rows of several, one after another. All must be of one family."""
        pooled, time_ids = (
            None if column[0] is None else torch.cat(column)
            for column in zip(*((part.pooled, part.time_ids) for part in parts), strict=True)
        )
        return Conditioning(torch.cat([part.states for part in parts]), pooled, time_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(part.nbytes for part in (self.states, self.pooled, self.time_ids) if part is not None)

    @property
    def added(self) -> dict[str, Tensor] | None:
        """As a UNet of diffusers takes what is not in `states`."""
        if self.pooled is None:
            return None
        assert self.time_ids is not None, "the images' sizes were not told"
        return {"text_embeds": self.pooled, "time_ids": self.time_ids}


def predict(unet: Any, xt: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    """The output [B, C, H, W] of a UNet, or of an engine around one: the only way this project calls a UNet."""
    prediction: Tensor = unet(xt, t, conditioning.states, added_cond_kwargs=conditioning.added, return_dict=False)[0]
    return prediction


@dataclass(frozen=True)
class ModelFamily:
    """What tells one family from another."""

    name: str
    pipeline: Any
    """The pipeline class of diffusers."""
    options: Mapping[str, Any]
    """For the pipeline class, beside weights."""
    caches_prompts: bool
    """Whether a prompt's embedding is small enough to be worth keeping."""
    told_sizes: bool
    """Whether the UNet is told what became of the image's size."""


SD15 = ModelFamily(
    "SD1.5",
    StableDiffusionPipeline,
    {"safety_checker": None, "requires_safety_checker": False},
    caches_prompts=True,
    told_sizes=False,
)
# With an optional package installed, diffusers would draw a watermark into every image.
SDXL = ModelFamily("SDXL", StableDiffusionXLPipeline, {"add_watermarker": False}, caches_prompts=False, told_sizes=True)
FAMILIES = {family.pipeline.__name__: family for family in (SD15, SDXL)}
"""By the pipeline's class name, as model_index.json gives it."""


def model_family(model: ModelConfig) -> ModelFamily:
    """The family of a model, from its model_index.json. InputError if it cannot be read, or is of another family."""
    try:
        index = DiffusionPipeline.load_config(model_directory(model), revision=model.revision)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the model {model.path!r}: {' '.join(str(error).split())}") from None
    name = index.get("_class_name")
    if name not in FAMILIES:
        raise InputError(
            f"The model {model.path!r} is a {name}: only {' and '.join(FAMILIES)} can be trained. Choose another"
            " model.path."
        )
    return FAMILIES[name]


def family_of(pipeline: Pipeline) -> ModelFamily:
    """The family of a loaded pipeline."""
    return FAMILIES[type(pipeline).__name__]


@torch.no_grad()
def encode_prompts(pipeline: Pipeline, prompts: Sequence[str]) -> Conditioning:
    """The conditioning of prompts, padded and truncated to the tokenizer's length, before sizes are told.

    An empty prompt is encoded as any other text. For SDXL: the penultimate hidden states of both text encoders side
    by side, and the second one's pooled projection.
    """
    with _without_truncation_warnings(pipeline):
        states, _, *pooled = pipeline.encode_prompt(
            list(prompts),
            device=pipeline.text_encoder.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
    return Conditioning(states, pooled[0] if pooled else None)


@contextmanager
def _without_truncation_warnings(pipeline: Pipeline) -> Iterator[None]:
    """Long prompts are cut as published; a warning for each would fill the logs."""
    logger = logging.getLogger(type(pipeline).__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
