"""Buckets, cuts, and what SDXL is told about them."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.base import Size
from prefopt.data.framing import Cut, Framing, centre_cut, nearest_bucket, time_ids

TALL, SQUARE, WIDE = Size(576, 448), Size(512, 512), Size(448, 576)
SIDES = st.integers(1, 4000)
SIZES = st.builds(Size, SIDES, SIDES)


@pytest.mark.parametrize(
    ("original", "target", "cut"),
    [
        (Size(512, 512), SQUARE, Cut(SQUARE, 0, 0)),
        (Size(1024, 768), SQUARE, Cut(Size(683, 512), 85, 0)),
        (Size(768, 1024), SQUARE, Cut(Size(512, 683), 0, 85)),
        (Size(512, 512), TALL, Cut(Size(576, 576), 0, 64)),
        (Size(100, 700), WIDE, Cut(Size(448, 3136), 0, 1280)),
    ],
)
def test_cuts_by_hand(original: Size, target: Size, cut: Cut) -> None:
    assert centre_cut(original, target) == cut


@given(SIZES, SIZES)
def test_a_cut_covers_the_target_and_touches_it_on_one_side(original: Size, target: Size) -> None:
    cut = centre_cut(original, target)
    assert cut.resized.height >= target.height
    assert cut.resized.width >= target.width
    assert cut.resized.height == target.height or cut.resized.width == target.width
    for corner, resized, side in zip(cut[1:], cut.resized, target, strict=True):
        assert 0 <= resized - side - 2 * corner <= 1


@pytest.mark.parametrize(
    ("originals", "bucket"),
    [
        ((Size(512, 512), Size(512, 512)), SQUARE),
        ((Size(900, 700), Size(900, 700)), TALL),
        ((Size(900, 700), Size(700, 900)), SQUARE),
        ((Size(899, 700), Size(512, 512)), SQUARE),
        ((Size(901, 700), Size(512, 512)), TALL),
        ((Size(1600, 900), Size(512, 512)), TALL),
        ((Size(2, 3), Size(3, 3)), WIDE),
        ((Size(300, 500),), WIDE),
    ],
)
def test_a_pair_takes_the_bucket_nearest_to_its_mean(originals: tuple[Size, ...], bucket: Size) -> None:
    assert nearest_bucket((TALL, SQUARE, WIDE), originals) == bucket


def test_of_two_buckets_as_near_the_first_is_taken() -> None:
    """A square lies just between a format and the same on its side; 9 to 7 beside a square, between 9 to 7 and it."""
    assert nearest_bucket((WIDE, TALL), (SQUARE, Size(3, 3))) == WIDE
    assert nearest_bucket((TALL, WIDE), (SQUARE, Size(3, 3))) == TALL
    for first, second in ((TALL, SQUARE), (SQUARE, TALL)):
        assert nearest_bucket((first, second), (Size(900, 700), SQUARE)) == first


@given(st.lists(SIZES, min_size=1, max_size=6), st.lists(SIZES, min_size=1, max_size=2))
def test_no_other_bucket_is_nearer(buckets: list[Size], originals: list[Size]) -> None:
    def log_aspect(size: Size) -> float:
        return math.log(size.width / size.height)

    found = nearest_bucket(tuple(buckets), tuple(originals))
    mean = sum(map(log_aspect, originals)) / len(originals)
    distances = [abs(log_aspect(bucket) - mean) for bucket in buckets]
    assert abs(log_aspect(found) - mean) <= min(distances) + 1e-9
    assert found in buckets
    assert nearest_bucket(tuple(buckets), tuple(originals[::-1])) == found


def test_the_order_of_time_ids() -> None:
    """Original height, width, crop top, left, target height, width."""
    assert time_ids((1, 2), (3, 4), (5, 6), "image") == (1, 2, 3, 4, 5, 6)
    assert time_ids((1, 2), (3, 4), (5, 6), "target") == (5, 6, 0, 0, 5, 6)


def test_a_framing_reads_the_tables_sizes() -> None:
    images = pa.table({"image_id": ["a", "b"], "height": [900, 512], "width": [700, 612]})
    framing = Framing.of((TALL, SQUARE), images)
    assert framing.bucket("a") == TALL
    assert framing.bucket("a", "b") == SQUARE
    assert framing.crop("b", SQUARE, False) == (0, 50)
    assert Framing.of((WIDE,), images).bucket("a", "b") == WIDE
