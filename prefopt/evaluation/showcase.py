"""Pairs of images that a report shows side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from prefopt.config.evaluate import EvaluateConfig
from prefopt.data.storage import Storage
from prefopt.evaluation.generation import open_png, png_bytes
from prefopt.evaluation.results import BASE, TUNED
from prefopt.page.pictures import SMALL_SIDE, data_uri

LARGEST_SIDE = 256


@dataclass(frozen=True)
class Picture:
    """A picture ready for a page."""

    uri: str
    """A data URI of a PNG."""
    score: float
    """On the headline reward."""
    small: bool
    """Few pixels: to be enlarged without smoothing."""


@dataclass(frozen=True)
class Shown:
    """The first sample of a prompt from both models."""

    prompt: str
    base: Picture
    tuned: Picture


def read_showcase(output: Storage, prompts: Sequence[str], config: EvaluateConfig) -> list[Shown]:
    """The first sample of each of these prompts, which are the first of the evaluated ones, in order."""
    pictures: dict[str, dict[str, Picture]] = {BASE: {}, TUNED: {}}
    for model, found in pictures.items():
        for unit in range(-(-len(prompts) // config.unit_prompts)):
            images = output.read_table(f"images-{model}-{unit:05d}.parquet")
            scores = output.read_table(f"scores-{model}-{unit:05d}.parquet")
            found |= _pictures(images, scores, set(prompts), config.rewards[0])
    return [Shown(prompt, pictures[BASE][prompt], pictures[TUNED][prompt]) for prompt in prompts]


def _pictures(images: pa.Table, scores: pa.Table, prompts: set[str], reward: str) -> dict[str, Picture]:
    headline = scores.filter(pc.and_(pc.equal(scores["reward"], reward), pc.equal(scores["sample"], 0)))
    score = dict(zip(headline["prompt_id"].to_pylist(), headline["score"].to_pylist(), strict=True))
    first = images.filter(pc.and_(pc.equal(images["sample"], 0), pc.is_in(images["prompt"], pa.array(sorted(prompts)))))
    return {row["prompt"]: _picture(row["png"], score[row["prompt_id"]]) for row in first.to_pylist()}


def _picture(png: bytes, score: float) -> Picture:
    image = open_png(png)
    small = max(image.size) <= SMALL_SIDE
    if max(image.size) > LARGEST_SIDE:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        png = png_bytes(image)
    return Picture(data_uri("png", png), score, small)
