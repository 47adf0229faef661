"""Which size a pair's images take, how each is cut to it, and what SDXL is told about that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa

from prefopt.config.base import Size
from prefopt.config.score import SizeConditioning


class Cut(NamedTuple):
    """An image is resized, and from there a rectangle of the target's size is cut out."""

    resized: Size
    top: int
    left: int


@lru_cache(maxsize=4096)
def centre_cut(original: Size, target: Size) -> Cut:
    """Resized as little as it takes to cover the target, and cut from the middle."""
    scale = max(target.height / original.height, target.width / original.width)
    height = max(target.height, round(original.height * scale))
    width = max(target.width, round(original.width * scale))
    return Cut(Size(height, width), (height - target.height) // 2, (width - target.width) // 2)


@lru_cache(maxsize=4096)
def nearest_bucket(buckets: tuple[Size, ...], originals: tuple[Size, ...]) -> Size:
    """The bucket nearest in log aspect ratio to the mean of the images' log aspect ratios; of two, the first.

    Distances are compared exactly, as ratios: over n images, the product of (aspect / bucket's aspect) is exp of n
    times the difference of the logarithms.
    """

    def distance(bucket: Size) -> Fraction:
        ratio = Fraction(1)
        for size in originals:
            ratio *= Fraction(size.width * bucket.height, size.height * bucket.width)
        return max(ratio, 1 / ratio)

    return min(buckets, key=distance)


def time_ids(
    original: Sequence[int], crop: Sequence[int], target: Sequence[int], told: SizeConditioning
) -> tuple[int, ...]:
    """SDXL's time ids (original height, width, crop top, left, target height, width), or as if there was no crop."""
    return (*target, 0, 0, *target) if told == "target" else (*original, *crop, *target)


@dataclass(frozen=True)
class Framing:
    """How a data set's images take their sizes."""

    buckets: tuple[Size, ...]
    originals: Mapping[str, Size]
    """By image id."""

    @classmethod
    def of(cls, buckets: tuple[Size, ...], images: pa.Table) -> "Framing":
        """Of the images in a table with IMAGES' columns."""
        names, heights, widths = (images[name].to_pylist() for name in ("image_id", "height", "width"))
        shared = lru_cache(maxsize=None)(Size)
        return cls(buckets, dict(zip(names, map(shared, heights, widths), strict=True)))

    def bucket(self, *images: str) -> Size:
        """The size that these images, a pair, take together."""
        if len(self.buckets) == 1:
            return self.buckets[0]
        return nearest_bucket(self.buckets, tuple(self.originals[image] for image in images))

    def crop(self, image: str, target: Size, flip: bool) -> tuple[int, int]:
        """Top and left of an image's cut within the resized image, mirrored where the image is."""
        cut = centre_cut(self.originals[image], target)
        return cut.top, cut.resized.width - target.width - cut.left if flip else cut.left
