"""Small pictures for a page, as data URIs of bounded size."""

import base64
import io

from PIL import Image

SMALL_SIDE = 96
"""Pictures up to here are enlarged without smoothing, and kept without loss."""
_QUALITIES = (85, 70, 50, 30)


def thumbnail(image: Image.Image, largest: int, most_bytes: int) -> tuple[str, bytes]:
    """Kind and bytes of an RGB picture, at most `largest` pixels wide and high, at most `most_bytes` in a file.

    png for one that is small as it is, else jpeg. The same pixels give the same bytes.
    """
    if max(image.size) <= min(SMALL_SIDE, largest):
        data = _saved(image, "png", optimize=True)
        if len(data) <= most_bytes:
            return "png", data
    side = largest
    while True:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            data = _saved(small, "jpeg", quality=quality)
            if len(data) <= most_bytes or side == 1:
                return "jpeg", data
        side = max(1, side // 2)


def data_uri(kind: str, data: bytes) -> str:
    """A picture as text that a page can hold."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
