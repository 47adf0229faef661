import io
import random
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from PIL import Image

from prefopt.config.ingest import Limits
from prefopt.data.images import check_image, decode_image
from prefopt.data.sources.base import BadRowError
from tests.kit.data import huge_png, picture

LIMITS = Limits()
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def noisy(kind: str, width: int = 24, height: int = 24, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def reason(data: bytes, limits: Limits = LIMITS, full: bool = True) -> str:
    with pytest.raises(BadRowError) as caught:
        check_image(data, limits, full=full)
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (24, 17)])
def test_images_of_every_kind_and_size(kind: str, size: tuple[int, int]) -> None:
    data = noisy(kind, *size)
    assert check_image(data, LIMITS, full=True) == size
    image = decode_image(data, LIMITS)
    assert (image.size, image.mode) == (size, "RGB")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    data = noisy("PNG", mode="L" if mode == "I;16" else mode)
    assert decode_image(data, LIMITS).mode == "RGB"


def test_lossless_pixels_come_back() -> None:
    pixels = np.asarray(decode_image(noisy("PNG"), LIMITS))
    assert np.array_equal(pixels, np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize("data", [b"", b"not an image", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4 x", b"\0" * 999])
def test_what_is_not_an_image(data: bytes) -> None:
    assert reason(data) == "bad_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_image_is_found_by_the_full_check(kind: str) -> None:
    data = noisy(kind, 64, 64)
    assert reason(data[: len(data) * 6 // 10]) == "bad_image"


def test_a_header_check_trusts_the_rest() -> None:
    data = noisy("JPEG", 64, 64)[:-500]
    assert check_image(data, LIMITS, full=False) == (64, 64)
    assert reason(data) == "bad_image"
    with pytest.raises(BadRowError, match="damaged"):
        decode_image(data, LIMITS)


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (60_000, 60_000), (8_001, 8_000)])
@pytest.mark.parametrize("full", [True, False])
def test_a_bomb_is_refused_before_it_is_decoded(width: int, height: int, full: bool) -> None:
    assert reason(huge_png(width, height), full=full) == "image_too_large"


def test_limits_on_bytes_and_pixels_are_inclusive() -> None:
    data = picture(1, size=16)
    assert check_image(data, Limits(image_pixels=256, image_bytes=len(data)), full=True) == (16, 16)
    assert reason(data, Limits(image_pixels=255)) == "image_too_large"
    assert reason(data, Limits(image_bytes=len(data) - 1)) == "image_too_large"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_is_a_bad_row_or_an_image_and_never_a_crash(kind: str) -> None:
    rng = random.Random(0)
    data = noisy(kind)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.randrange(256)
        for look in (partial(check_image, full=True), decode_image):
            with suppress(BadRowError):
                look(bytes(damaged), LIMITS)
