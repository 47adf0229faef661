import base64
import io

import numpy as np
import pytest
from PIL import Image

from prefopt.page.pictures import data_uri, thumbnail


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_small_picture_is_kept_without_loss() -> None:
    kind, data = thumbnail(noise(32, 20), 192, 24_000)
    assert kind == "png"
    assert np.array_equal(np.asarray(opened(data)), np.asarray(noise(32, 20)))


def test_a_large_picture_shrinks_and_keeps_its_shape() -> None:
    image = Image.new("RGB", (1024, 512), (200, 30, 30))
    kind, data = thumbnail(image, 192, 24_000)
    assert kind == "jpeg"
    assert opened(data).size == (192, 96)
    assert image.size == (1024, 512)


@pytest.mark.parametrize(("largest", "most"), [(512, 24_000), (512, 2_000), (64, 900), (96, 24_000)])
def test_no_picture_is_larger_than_it_may_be(largest: int, most: int) -> None:
    for side in (96, 2000):
        _, data = thumbnail(noise(side, side), largest, most)
        assert len(data) <= most
        assert max(opened(data).size) <= largest


def test_the_same_pixels_give_the_same_bytes() -> None:
    assert thumbnail(noise(300, 200), 192, 24_000) == thumbnail(noise(300, 200), 192, 24_000)


def test_a_data_uri_holds_the_picture() -> None:
    assert data_uri("png", b"abc") == f"data:image/png;base64,{base64.b64encode(b'abc').decode()}"
