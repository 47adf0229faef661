from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prefopt.errors import ConfigError, RewardError
from prefopt.rewards import UnscorableImageError, checked_scores
from tests.rewards.checkpoints import pictures

NAMES, PROMPTS = ["first", "second", "third"], ["a", "b", "c"]


@dataclass(frozen=True)
class Broken:
    do: Callable[[Sequence[str]], Any]
    name: str = "mine"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        return self.do(prompts)


def raises(error: Exception, on: str) -> Callable[[Sequence[str]], Any]:
    def score(prompts: Sequence[str]) -> Any:
        if on in prompts:
            raise error
        return np.zeros(len(prompts), np.float32)

    return score


def only_together(prompts: Sequence[str]) -> Any:
    if len(prompts) > 1:
        raise RuntimeError("out of memory\nfor so many")
    return np.zeros(1, np.float32)


def check(do: Callable[[Sequence[str]], Any]) -> np.ndarray:
    return checked_scores(Broken(do), pictures(3), PROMPTS, NAMES)


def test_good_scores_pass() -> None:
    assert check(lambda prompts: np.arange(3, dtype=np.float32)).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (raises(ValueError("no"), "b"), r"'mine' failed with ValueError: no for second under the prompt 'b'"),
        (only_together, r"'mine' failed with RuntimeError: out of memory for so many for 3 images \(first to third\)"),
        (
            raises(UnscorableImageError(2, "too large"), "c"),
            r"'mine' cannot score third under the prompt 'c': too large",
        ),
        (lambda _: None, r"'mine' gave a NoneType for first to third: it must give a numpy array, float32 \(3,\)"),
        (lambda _: np.zeros((3, 1), np.float32), r"gave float32 \(3, 1\) for 3 images: it must give float32 \(3,\)"),
        (lambda _: np.zeros(3), r"gave float64 \(3,\) for 3 images"),
        (lambda _: np.array([0, np.inf, np.nan], np.float32), r"gave inf for second under the prompt 'b'"),
    ],
)
def test_everything_else_is_a_reward_error(do: Callable[[Sequence[str]], Any], words: str) -> None:
    with pytest.raises(RewardError, match=words) as caught:
        check(do)
    assert "\n" not in str(caught.value)


def test_errors_for_users_stay_what_they_are() -> None:
    with pytest.raises(ConfigError, match=r"^wrong$"):
        check(raises(ConfigError("wrong"), "a"))
