"""Which prompts a report shows, and how large its pictures are."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prefopt.data.ids import prompt_id
from prefopt.evaluation.generation import png_bytes
from prefopt.evaluation.showcase import (
    LARGEST_SIDE,
    MOST_CHANGED,
    PICTURE_BYTES,
    Picture,
    Shown,
    most_changed,
    picture_bytes,
    picture_of,
    prompt_gains,
)


def test_gains_are_means_over_a_prompts_images() -> None:
    names = [prompt_id(name) for name in ("a", "a", "b", "b")]
    assert prompt_gains(np.array([1.0, 0.0, -2.0, -1.0]), names, ["a", "b"]).tolist() == [0.5, -1.5]


def test_the_most_changed_by_hand() -> None:
    gains = np.array([0.1, -3.0, 0.0, 2.0, 2.0, -0.5])
    assert most_changed(gains, 2) == ([3, 4], [1, 5])
    assert most_changed(gains, 9) == ([3, 4, 0], [1, 5])
    assert most_changed(np.zeros(3), 2) == ([], [])


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(1, 5))
def test_losses_are_the_gains_of_the_other_model(values: list[int], most: int) -> None:
    gains = np.array(values, dtype=np.float64)
    up, down = most_changed(gains, most)
    assert most_changed(-gains, most) == (down, up)
    assert not set(up) & set(down)


def noise(side: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return png_bytes(Image.fromarray(pixels))


@pytest.mark.parametrize("side", [32, 300, 1024])
@pytest.mark.parametrize("most", [4_000, 200_000])
def test_a_picture_keeps_to_its_bytes(side: int, most: int) -> None:
    picture = picture_of(noise(side), 0.5, most)
    data = base64.b64decode(picture.uri.split(",")[1])
    shown = Image.open(io.BytesIO(data))
    assert len(data) <= most
    assert max(shown.size) <= min(side, LARGEST_SIDE)
    assert picture.small == (side == 32)
    if side == 32:
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(io.BytesIO(noise(32)))))


@pytest.mark.parametrize(("grid", "models"), [(12, 2), (100, 6), (1, 1)])
def test_all_pictures_together_keep_to_the_reports_bytes(grid: int, models: int) -> None:
    assert picture_bytes(grid, models) * models * (grid + 2 * MOST_CHANGED) <= PICTURE_BYTES


def test_who_leads_is_above_all_others() -> None:
    def shown(*scores: float) -> Shown:
        return Shown("p", {f"m{place}": Picture("", score, True) for place, score in enumerate(scores)})

    assert [shown(1.0, 3.0, 2.0).leads(f"m{place}") for place in range(3)] == [False, True, False]
    assert not any(shown(2.0, 2.0).leads(f"m{place}") for place in range(2))
