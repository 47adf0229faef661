"""What generated images are compared by: unit vectors that a network makes of them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from prefopt.config.base import Branch
from prefopt.config.rewards import CLIP_L

DINOV2_BASE = "facebook/dinov2-base@f9e44c814b77203eaa57a6bdbbd535f21ede1415"


def _named(where: str) -> str:
    if not where or where != where.strip():
        raise ValueError("must name a hub id (owner/name@revision), a directory, or an s3:// prefix")
    return where


Weights = Annotated[str, AfterValidator(_named)]


class VaeFeatures(Branch):
    """Latents of the base model's VAE, averaged to 8x8: layout and colour. Nothing is fetched."""

    kind: Literal["vae"] = "vae"


class ClipFeatures(Branch):
    """Image embeddings of a CLIP in transformers' layout: what is shown, and in which style."""

    kind: Literal["clip"] = "clip"
    weights: Weights = CLIP_L
    """A hub id (owner/name@revision), a directory, or an s3:// prefix: config.json, model.safetensors,
    preprocessor_config.json."""


class Dinov2Features(Branch):
    """The CLS token of a DINOv2 (arXiv 2304.07193) in transformers' layout: objects and texture, no text."""

    kind: Literal["dinov2"] = "dinov2"
    weights: Weights = DINOV2_BASE
    """As of `clip`."""


FeaturesConfig = Annotated[VaeFeatures | ClipFeatures | Dinov2Features, Field(discriminator="kind")]
