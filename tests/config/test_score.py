from typing import Any

import pytest
from pydantic import ValidationError

from prefopt.config.base import Size
from prefopt.config.score import ScoreConfig


def sizes(**given: Any) -> tuple[Size, ...]:
    return ScoreConfig.model_validate(given).sizes


def test_images_are_squares_unless_there_are_buckets() -> None:
    assert sizes(resolution=768) == (Size(768, 768),)
    assert sizes(resolution=768, buckets=[[576, 448], [512, 512]]) == (Size(512, 512), Size(576, 448))


@pytest.mark.parametrize(
    ("buckets", "message"),
    [
        ([], "at least 1 item"),
        ([[512]], "width\n  Field required|buckets.0.1"),
        ([[512, 0]], "greater than or equal to 1"),
        ([[512, 512], [1024, 1024]], r"\[512, 512\] and \[1024, 1024\] have the same aspect ratio"),
        ([[448, 576], [512, 512], [896, 1152]], r"\[448, 576\] and \[896, 1152\] have the same aspect ratio"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(buckets: list[list[int]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sizes(buckets=buckets)
