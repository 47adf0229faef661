"""What a pair is worth: rewards, soft preference, minority metric, latents and visits."""

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefopt.config.alpha import AlphaConfig
from prefopt.config.base import Branch, Count, Range, Share, Size
from prefopt.config.panel import PLACES as PANEL_PLACES
from prefopt.config.panel import PanelConfig


class RegularisationConfig(Branch):
    """Noise regularisation of ReNoise (arXiv 2403.14602); the defaults are the public code's, for latents of 32x32 and
    more: on tiny ones `pair_weight` must be smaller."""

    rounds: Count = 4
    patch_weight: Annotated[float, Field(ge=0.0)] = 0.065
    """Step size by which 4x4 patches are pulled towards the prediction on honestly noised data."""
    pair_weight: Annotated[float, Field(ge=0.0)] = 20.0
    """Step size by which the correlation with shifted copies is pulled towards 0."""
    rolls: Count = 5


class VisitConfig(Branch):
    """Training visits: which timestep, noise, flip and inverted latent each draw of a pair uses."""

    seed: int = 0
    timestep_range: Range = (0.0, 1.0)
    """Part of the schedule from which timesteps are drawn, uniformly; 0 is clean, 1 is noise."""
    inversion: Literal["none", "renoise"] = "none"
    """`none`: sampled noise; `renoise`: latents inverted with the reference model, stored once."""
    steps: Count = 5
    """Levels of the inversion grid."""
    renoise_steps: Annotated[int, Field(ge=0)] = 1
    average: tuple[Annotated[int, Field(ge=0)], Count] | None = None
    """The predictions lo, ..., hi - 1 of a level whose mean takes the step; by default all of them, as SmPO does."""
    regularisation: RegularisationConfig | None = None
    grid: Literal["exact", "reference"] = "exact"
    drop_prompt: Share = 0.0
    """Share of visits that train on the empty prompt."""
    flip: Share = 0.0
    """Share of images that are mirrored, drawn per image."""
    batch: Count = 32
    """Pairs per inversion batch: fixed and padded, since a row's result depends on the batch's size."""

    @model_validator(mode="after")
    def _average_is_there(self) -> "VisitConfig":
        if self.average and not self.average[0] < self.average[1] <= self.renoise_steps + 1:
            raise ValueError(
                f"average {list(self.average)} must be lo, hi with lo < hi <= renoise_steps + 1 ="
                f" {self.renoise_steps + 1}"
            )
        return self


OUTSIDE_KEYS = frozenset({"unit_images"})
"""Fields of ScoreConfig that no result depends on: they enter neither keys nor reports."""
PLACES = {"panel": set(PANEL_PLACES)}
"""Fields of ScoreConfig that name weights: their digests enter keys in their stead."""
SIZES = frozenset({"resolution", "buckets"})
"""Fields of ScoreConfig that `ScoreConfig.sizes` stands for: it enters keys in their stead."""
SizeConditioning = Literal["image", "target"]
LatentDtype = Literal["float16", "float32"]


class ScoreConfig(Branch):
    """From pairs and labels to everything training needs besides the policy."""

    alpha: AlphaConfig | None = None
    panel: PanelConfig | None = None
    visits: VisitConfig = VisitConfig()
    resolution: Count = 512
    """Images are resized (shorter side) and centre-cropped to squares of this many pixels."""
    buckets: Annotated[tuple[Size, ...], Field(min_length=1)] | None = None
    """Sizes [height, width] in place of that square. A pair takes the one nearest in log aspect ratio to the mean of
    its two images; both are resized to cover it and centre-cropped."""
    size_conditioning: SizeConditioning = "image"
    """What SDXL is told of an image. `image`: its original size, the corner of its crop and its bucket's size;
    `target`: the bucket's size, uncropped, whatever the image was, as Diffusion-DPO and SmPO-Diffusion published it."""
    latent_dtype: LatentDtype = "float16"
    """Of stored latents, clean and inverted. Everything computes in its own precision: docs/results/visits.md."""
    batch: Count = 64
    """Images per batch of the reward models and the VAE: fixed and padded."""
    unit_images: Count = 512
    """Images per work unit."""

    @model_validator(mode="after")
    def _aspect_ratios_differ(self) -> "ScoreConfig":
        for first, second in itertools.combinations(self.sizes, 2):
            if first.height * second.width == first.width * second.height:
                raise ValueError(f"buckets {list(first)} and {list(second)} have the same aspect ratio: leave one out")
        return self

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes that images take, sorted: one square, or the buckets."""
        return tuple(sorted(self.buckets or (Size.square(self.resolution),)))

    def reward_names(self) -> tuple[str, ...]:
        """Every reward model that this stage runs, each once, in order."""
        names = list(self.alpha.members()) if self.alpha else []
        names += list(self.panel.rewards) if self.panel else []
        return tuple(dict.fromkeys(names))
