"""Decoding images from outside: bounded, complete, RGB."""

import io
import struct
import warnings

from PIL import Image

from prefopt.config.ingest import Limits
from prefopt.data.sources.base import BadRowError

_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, ArithmeticError, LookupError, struct.error)
"""What the decoders raise on bytes that are not a whole image of a known kind."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def check_image(data: bytes, limits: Limits, full: bool) -> tuple[int, int]:
    """Width and height of an encoded image. BadRowError if it is no image, too large, or (full) not whole."""
    with _open(data, limits) as image:
        size = image.size
        if full:
            image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
            _rgb(image)
    return size


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """The image as RGB. BadRowError if it is no image, too large or not whole."""
    with _open(data, limits) as image:
        return _rgb(image)


def _open(data: bytes, limits: Limits) -> Image.Image:
    if len(data) > limits.image_bytes:
        raise BadRowError("image_too_large", f"{len(data)} bytes, limit {limits.image_bytes}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise BadRowError("image_too_large", f"more pixels than the limit of {limits.image_pixels}") from None
    except _DAMAGE as error:
        raise BadRowError("bad_image", f"not an image: {str(error)[:100]}") from None
    if image.width * image.height > limits.image_pixels:
        raise BadRowError("image_too_large", f"{image.width}x{image.height} pixels, limit {limits.image_pixels}")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    try:
        return image.convert("RGB")
    except _DAMAGE as error:
        raise BadRowError("bad_image", f"damaged: {str(error)[:100]}") from None
