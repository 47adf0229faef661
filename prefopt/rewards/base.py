"""The protocol of reward models: (images, prompts) to scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from prefopt.errors import PrefoptError, RewardError


class Reward(Protocol):
    """A loaded reward model. Higher is better; the score of an image depends on that image and prompt alone."""

    @property
    def name(self) -> str:
        """The name in configs and tables."""
        ...

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n] from n RGB images and n prompts."""
        ...


@dataclass(frozen=True)
class Resources:
    """What one loaded reward model takes. Zero where it is not known, or is not taken on this machine."""

    memory: float = 0.0
    """Bytes of weights, in the configured precision."""
    flops: float = 0.0
    """Of one image under one prompt."""


@dataclass(frozen=True)
class RewardSpec:
    """How to identify and load a reward model without loading it."""

    name: str
    version: str
    """Changes whenever scores may change: code version, weights digest, precision, preprocessing."""
    load: Callable[[], Reward]
    resources: Resources = Resources()


class UnscorableImageError(Exception):
    """Raised by a reward model for one image of a batch that it cannot score."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def checked_scores(
    reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """float32 [n] scores of n images. RewardError, naming the image, unless all are finite float32."""
    scores = _scores(reward, images, prompts, names)
    if not isinstance(scores, np.ndarray):
        raise RewardError(
            f"Reward model {reward.name!r} gave a {type(scores).__name__} for {_span(names)}: it must give a numpy"
            f" array, float32 ({len(images)},)."
        )
    if scores.shape != (len(images),) or scores.dtype != np.float32:
        raise RewardError(
            f"Reward model {reward.name!r} gave {scores.dtype} {scores.shape} for {len(images)} images: it must give"
            f" float32 ({len(images)},). They were {_span(names)}."
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        index = int(bad[0])
        raise RewardError(
            f"Reward model {reward.name!r} gave {scores[index]} for {_described(index, names, prompts)}: scores must be"
            " finite. Mend the reward model, or leave it out of the config."
        )
    return scores


def _scores(reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], names: Sequence[str]) -> object:
    try:
        return reward.score(images, prompts)
    except PrefoptError:
        raise
    except UnscorableImageError as error:
        raise RewardError(
            f"Reward model {reward.name!r} cannot score {_described(error.index, names, prompts)}: {error}"
        ) from error
    # A reward model may be anybody's code: whatever it raises is said in words, and the image is named.
    except Exception as error:
        where = _culprit(reward, images, prompts, error)
        what = f"{len(images)} images ({_span(names)})" if where is None else _described(where, names, prompts)
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RewardError(
            f"Reward model {reward.name!r} failed with {detail} for {what}. Mend the reward model, or leave it out of"
            " the config."
        ) from error


def _culprit(reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], error: Exception) -> int | None:
    """The first image that fails alone as the batch did; None if none does."""
    for index in range(len(images)):
        try:
            reward.score(images[index : index + 1], prompts[index : index + 1])
        except Exception as alone:
            if repr(alone) == repr(error):
                return index
    return None


def _described(index: int, names: Sequence[str], prompts: Sequence[str]) -> str:
    return f"{names[index]} under the prompt {prompts[index][:80]!r}"


def _span(names: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys((names[0], names[-1]))) if names else "no image"
