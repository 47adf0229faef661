"""The protocol of image features: images to unit vectors, whose cosines say how alike the images are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from prefopt.errors import InputError

UNIT_TOLERANCE = 1e-4
"""How far from 1 the length of a row may be: rows are made in float32."""


class Embedder(Protocol):
    """A loaded network.

    In batches of one size a row depends on its own image alone: other images at the other places leave it as it is,
    bit by bit. Another size of the batch, or another place in it, may change it by float noise.
    """

    @property
    def name(self) -> str:
        """The kind in configs and tables."""
        ...

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, d] of n >= 1 RGB images; rows have the length 1."""
        ...


@dataclass(frozen=True)
class EmbedderSpec:
    """How to identify and load image features without loading them."""

    name: str
    version: str
    """Changes whenever rows may change: code version, weights digest, precision."""
    load: Callable[[], Embedder]


def embedded(embedder: Embedder, images: Sequence[Image.Image], batch: int) -> np.ndarray:
    """float32 [n, d] of n >= 1 images, computed `batch` at a time; the last batch is padded with its last image.

    InputError, naming the image by its number, unless all rows are finite float32 of length 1.
    """
    assert len(images) >= 1
    assert batch >= 1
    rows = []
    for start in range(0, len(images), batch):
        chosen = list(images[start : start + batch])
        found = embedder.embed([*chosen, *[chosen[-1]] * (batch - len(chosen))])
        rows.append(_checked(embedder.name, found, batch, start)[: len(chosen)])
    return np.concatenate(rows)


def _checked(name: str, rows: np.ndarray, batch: int, start: int) -> np.ndarray:
    if rows.ndim != 2 or len(rows) != batch or rows.dtype != np.float32:
        raise InputError(
            f"The image features {name} are {rows.dtype} {rows.shape} for {batch} images: they must be float32"
            f" ({batch}, d)."
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        number = start + int(np.flatnonzero(~finite)[0]) + 1
        raise InputError(
            f"The image features {name} of generated image {number} are not finite. Set rewards.precision: fp32, or"
            " choose other evaluate.features."
        )
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    odd = np.abs(lengths - 1.0) > UNIT_TOLERANCE
    if odd.any():
        index = int(np.flatnonzero(odd)[0])
        raise InputError(
            f"The image features {name} of generated image {start + index + 1} have the length {lengths[index]:g}, not"
            " 1: a network that gives nothing but zeros for an image cannot measure it. Choose other evaluate.features."
        )
    return rows
