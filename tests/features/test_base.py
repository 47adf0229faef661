"""Batches of image features, and what is refused."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from prefopt.errors import InputError
from prefopt.features import embedded


class Corner:
    """The direction of an image's first pixel; remembers the batches that it saw."""

    name = "corner"

    def __init__(self, broken: int | None = None, value: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self._broken, self._value = broken, value

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, 2]."""
        red = [int(np.asarray(image)[0, 0, 0]) for image in images]
        self.batches.append(red)
        rows = np.stack([np.cos(red), np.sin(red)], axis=1).astype(np.float32)
        rows[[value == self._broken for value in red]] *= np.float32(self._value)
        return rows


def plain(*reds: int) -> list[Image.Image]:
    return [Image.new("RGB", (2, 2), (red, 0, 0)) for red in reds]


def test_batches_are_padded_with_the_last_image() -> None:
    embedder = Corner()
    rows = embedded(embedder, plain(1, 2, 3, 4, 5), batch=3)
    assert embedder.batches == [[1, 2, 3], [4, 5, 5]]
    assert rows[:, 0] == pytest.approx(np.cos([1, 2, 3, 4, 5]))
    assert (rows.dtype, rows.shape) == (np.float32, (5, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_the_image(value: float) -> None:
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(InputError, match=r"features corner of generated image 4 are not finite"),
    ):
        embedded(Corner(broken=9, value=value), plain(1, 2, 3, 9, 5), batch=2)


@pytest.mark.parametrize("value", [0.0, 1.01])
def test_another_length_names_the_image(value: float) -> None:
    with pytest.raises(InputError, match=r"generated image 3 have the length (0|1\.01), not 1"):
        embedded(Corner(broken=9, value=value), plain(1, 2, 9), batch=2)


@pytest.mark.parametrize(
    "rows", [np.ones((2, 1)), np.ones((3, 1), np.float32), np.ones(2, np.float32)], ids=["float64", "three", "flat"]
)
def test_another_form_is_refused(rows: np.ndarray) -> None:
    embedder = Corner()
    embedder.embed = lambda images: rows  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"they must be float32 \(2, d\)"):
        embedded(embedder, plain(1, 2), batch=2)
