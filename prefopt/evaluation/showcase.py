"""Pairs of images that a report shows side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.evaluate import EvaluateConfig
from prefopt.data.ids import prompt_id
from prefopt.data.storage import Storage
from prefopt.evaluation.generation import open_png
from prefopt.evaluation.statistics import Floats
from prefopt.evaluation.units import unit_file
from prefopt.page.pictures import SMALL_SIDE, data_uri, thumbnail

LARGEST_SIDE = 512
PICTURE_BYTES = 12_000_000
"""Of all pictures of a report together, before base64 makes a third more of them."""
MOST_CHANGED = 6
"""Prompts with the largest gain that are shown, and as many with the largest loss."""


@dataclass(frozen=True)
class Picture:
    """A picture ready for a page."""

    uri: str
    """A data URI of a PNG or a JPEG."""
    score: float
    """On the headline reward."""
    small: bool
    """Few pixels: to be enlarged without smoothing."""


@dataclass(frozen=True)
class Shown:
    """The first sample of a prompt from each model."""

    prompt: str
    pictures: dict[str, Picture]
    """By model, the base's first."""

    def leads(self, model: str) -> bool:
        """Whether a model's picture has a higher score than all others."""
        mine = self.pictures[model].score
        return all(mine > picture.score for name, picture in self.pictures.items() if name != model)


@dataclass(frozen=True)
class Changed:
    """A prompt whose score changed much."""

    shown: Shown
    gain: float
    """Mean of the model's score minus the base's, over the prompt's images."""


def read_showcase(
    output: Storage, prompts: Sequence[str], gains: Floats, config: EvaluateConfig, models: Sequence[str]
) -> tuple[list[Shown], list[Changed], list[Changed]]:
    """The first prompts of all evaluated ones, those with the largest gains, and those with the largest losses, at most
    MOST_CHANGED of each; gains [prompts]. Only their units are read, each of them once."""
    first = range(min(config.grid_prompts, len(prompts)))
    up, down = most_changed(gains, MOST_CHANGED)
    shown = _read_shown(output, prompts, [*first, *up, *down], config, models)
    gained, lost = ([Changed(shown[place], float(gains[place])) for place in places] for places in (up, down))
    return [shown[place] for place in first], gained, lost


def _read_shown(
    output: Storage, prompts: Sequence[str], places: Sequence[int], config: EvaluateConfig, models: Sequence[str]
) -> dict[int, Shown]:
    """The first sample of the prompts at these places, by place."""
    pictures: dict[str, dict[str, Picture]] = {model: {} for model in models}
    chosen = {prompts[place] for place in places}
    most = picture_bytes(config.grid_prompts, len(models))
    for model, found in pictures.items():
        for unit in sorted({place // config.unit_prompts for place in places}):
            images = output.read_table(unit_file("images", model, unit))
            scores = output.read_table(unit_file("scores", model, unit))
            found |= _pictures(images, scores, chosen, config.rewards[0], most)
    shown = {prompt: Shown(prompt, {model: found[prompt] for model, found in pictures.items()}) for prompt in chosen}
    return {place: shown[prompts[place]] for place in places}


def picture_bytes(grid_prompts: int, models: int) -> int:
    """How many bytes a picture may have, so that a report stays small however many it shows."""
    return PICTURE_BYTES // (models * (grid_prompts + 2 * MOST_CHANGED))


def prompt_gains(gains: Floats, names: Sequence[str], prompts: Sequence[str]) -> Floats:
    """The mean gain of each prompt [prompts], from the gain [n] and the prompt id of each of the n images."""
    place = {prompt_id(prompt): number for number, prompt in enumerate(prompts)}
    at = np.array([place[name] for name in names])
    sums = np.bincount(at, weights=gains, minlength=len(prompts))
    return sums / np.bincount(at, minlength=len(prompts))


def most_changed(gains: Floats, most: int) -> tuple[list[int], list[int]]:
    """Places of the largest gains and of the largest losses, the largest first; equal ones in their order."""
    up = [int(place) for place in np.argsort(-gains, kind="stable")[:most] if gains[place] > 0.0]
    down = [int(place) for place in np.argsort(gains, kind="stable")[:most] if gains[place] < 0.0]
    return up, down


def _pictures(images: pa.Table, scores: pa.Table, prompts: set[str], reward: str, most: int) -> dict[str, Picture]:
    headline = scores.filter(pc.and_(pc.equal(scores["reward"], reward), pc.equal(scores["sample"], 0)))
    score = dict(zip(headline["prompt_id"].to_pylist(), headline["score"].to_pylist(), strict=True))
    first = images.filter(pc.and_(pc.equal(images["sample"], 0), pc.is_in(images["prompt"], pa.array(sorted(prompts)))))
    return {row["prompt"]: picture_of(row["png"], score[row["prompt_id"]], most) for row in first.to_pylist()}


def picture_of(png: bytes, score: float, most: int) -> Picture:
    """A generated image for a page, in at most `most` bytes."""
    image = open_png(png)
    return Picture(data_uri(*thumbnail(image, LARGEST_SIDE, most)), score, max(image.size) <= SMALL_SIDE)
