"""Reward models of the world; each measures known qualities from pixels and prompt (prefopt)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefopt.world import taste
from prefopt.world.scenes import COLOURS, HUES, LUMINANCE_RANGE, SATURATION_RANGE, VALUE_RANGE
from prefopt.world.taste import TASTES, measured_fidelity, measured_looks, qualities, utility
from prefopt.world.vision import Asked, Measurement, as_array, measure, parse_prompt

RESIDUAL_LIMIT = 0.05
CONTRAST_LIMIT = 0.12
BLUR_LIMIT = 4.5
Formula = Callable[[NDArray[np.uint8], Measurement, list[Asked]], NDArray[np.float64]]


@dataclass(frozen=True)
class WorldReward:
    """A reward model: higher is better; a pure function of image and prompt."""

    name: str
    formula: Formula

    def score(self, images: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float32]:
        """Scores [n] of images (uint8 [32, 32, 3] or PIL RGB) for their prompts.

        Raises ValueError when the numbers of images and prompts differ or an image has another shape.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images but {len(prompts)} prompts")
        pixels = as_array(images)
        if not len(pixels):
            return np.zeros(0, np.float32)
        asked = [parse_prompt(prompt) for prompt in prompts]
        return self.formula(pixels, measure(pixels), asked).astype(np.float32)


def _fidelity(_: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
    return measured_fidelity(seen, asked)


def _composition(_: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
    return taste.composition(measured_looks(seen))


def _style(_: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
    looks = measured_looks(seen)
    return 0.6 * taste.brightness(looks) + 0.4 * taste.vividness(looks)


def _clutter(_: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
    return taste.calm(measured_looks(seen))


def left_world(seen: Measurement) -> NDArray[np.float64]:
    """How far [n] pictures are from anything the world can show; 0 for its own pictures.

    Counts what no scene explains, a smeared edge, a shape that can hardly be seen, and colours outside the
    world's ranges.
    """
    unexplained = np.maximum(seen.residual - RESIDUAL_LIMIT, 0.0) / 0.02
    blurred = np.maximum(seen.blur - BLUR_LIMIT, 0.0) / 2.0
    invisible = np.maximum(CONTRAST_LIMIT - seen.contrast, 0.0) / 0.05
    luminance = _outside(seen.luminance, *LUMINANCE_RANGE) / 0.03
    saturation = _outside(seen.saturation, *SATURATION_RANGE) / 0.15
    value = _outside(seen.value, *VALUE_RANGE) / 0.1
    return np.asarray(unexplained + blurred + invisible + luminance + saturation + value, dtype=np.float64)


def _outside(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    """Distance of values from the interval, with a little slack for what reading pixels gets wrong."""
    slack = 0.02
    below = np.maximum(low - slack - values, 0.0)
    return np.asarray(below + np.maximum(values - high - slack, 0.0), dtype=np.float64)


def _true(group: str) -> Formula:
    """The true utility of a group's taste, less what a picture loses that no scene could give."""

    def formula(_: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
        values = qualities(measured_looks(seen), measured_fidelity(seen, asked))
        return utility(values, TASTES[group]) - np.minimum(left_world(seen), 6.0)

    return formula


def _taste(pixels: NDArray[np.uint8], seen: Measurement, asked: list[Asked]) -> NDArray[np.float64]:
    """Sums of plain pixel statistics, without bounds: what a small learned scorer might have picked up."""
    image = pixels.astype(np.float64) / 255.0
    chroma = image.max(axis=3) - image.min(axis=3)
    light = image.mean(axis=(1, 2, 3))
    vivid = np.quantile(chroma.reshape(len(image), -1), 0.95, axis=1)
    rough = np.abs(np.diff(image.mean(axis=3), axis=2)).mean(axis=(1, 2))
    weight = np.maximum(chroma - 0.25, 0.0) ** 2 + 1e-6
    total = weight.sum(axis=(1, 2))
    at = np.arange(32) + 0.5
    x = (weight.sum(axis=1) * at).sum(axis=1) / total
    y = (weight.sum(axis=2) * at).sum(axis=1) / total
    away = np.hypot(x - 16.0, y - 16.0)
    mean_colour = (weight[..., None] * image).sum(axis=(1, 2)) / total[:, None]
    hue = _hue_match(mean_colour, asked)
    shape = measured_fidelity(seen, [Asked(want.shape, None, want.attribute) for want in asked])
    return np.asarray(
        4.0 * (light - 0.5)
        + 2.2 * (vivid - 0.65)
        - 0.22 * (away - 5.0)
        - 14.0 * (rough - 0.04)
        + 1.2 * (hue - 0.8)
        + 1.5 * (shape - 0.9)
        + _mood(image)
    )


def _hue_match(colour: NDArray[np.float64], asked: list[Asked]) -> NDArray[np.float64]:
    red, green, blue = colour.T
    hue = np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue)
    wanted = np.radians([HUES[COLOURS.index(want.colour)] if want.colour else np.nan for want in asked])
    return np.where(np.isnan(wanted), 1.0, 0.5 + 0.5 * np.cos(hue - wanted))


def _mood(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """A fixed arbitrary bias of the scorer: random weights on a 4x4 thumbnail."""
    thumbnail = image.reshape(len(image), 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(image), -1)
    weights = np.random.default_rng(20240607).standard_normal(thumbnail.shape[1])
    weights -= weights.mean()
    return np.asarray((thumbnail - 0.5) @ weights * 0.35)


_FORMULAS: dict[str, Formula] = {
    "world/fidelity": _fidelity,
    "world/composition": _composition,
    "world/style": _style,
    "world/taste": _taste,
    "world/clutter": _clutter,
    "world/true": _true("majority"),
    "world/noir": _true("noir"),
    "world/ornate": _true("ornate"),
}


def _factory(name: str, formula: Formula) -> Callable[[], WorldReward]:
    return lambda: WorldReward(name, formula)


WORLD_REWARDS: dict[str, Callable[[], WorldReward]] = {
    name: _factory(name, formula) for name, formula in _FORMULAS.items()
}
"""Reward name to factory. world/true is kept for evaluation; world/taste scores training pairs."""
