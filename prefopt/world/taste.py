"""What can be liked in a picture of the world: five qualities, and the tastes that weigh them (prefopt)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefopt.world.scenes import COLOURS, DARK_BELOW, LARGE_ABOVE, LIGHT_ABOVE, SHAPES, SMALL_BELOW, Scene, holds
from prefopt.world.vision import Asked, Measurement

SCALES = ((0.92, 0.15), (0.51, 0.18), (0.57, 0.34), (0.44, 0.21), (0.60, 0.25))
"""Mean and standard deviation of each of the `qualities` over the world's scenes, frozen with the world's version."""

TASTES: dict[str, tuple[float, ...]] = {
    "majority": (0.7, 0.6, 1.8, 0.8, 0.4),
    "noir": (0.6, 0.5, -1.8, -0.7, 0.3),
    "ornate": (0.6, -0.8, 0.2, 0.5, -1.2),
}


@dataclass(frozen=True)
class Looks:
    """The measurable looks of n pictures, known from the scene or read from pixels; arrays of shape [n]."""

    centre_x: NDArray[np.float64]
    centre_y: NDArray[np.float64]
    radius: NDArray[np.float64]
    luminance: NDArray[np.float64]
    saturation: NDArray[np.float64]
    value: NDArray[np.float64]
    gradient: NDArray[np.float64]
    texture: NDArray[np.float64]


def composition(looks: Looks) -> NDArray[np.float64]:
    """1 for a shape of middle size in the middle, towards 0 at the border or for extreme sizes."""
    away = np.hypot(looks.centre_x - 16.0, looks.centre_y - 16.0)
    centred = np.exp(-((away / 6.0) ** 2))
    sized = np.exp(-(((looks.radius - 8.5) / 3.0) ** 2))
    return np.asarray(0.7 * centred + 0.3 * sized)


def brightness(looks: Looks) -> NDArray[np.float64]:
    """1 for a light background (luminance 0.84), falling smoothly on both sides."""
    return np.asarray(np.exp(-(((looks.luminance - 0.84) / 0.46) ** 2)))


def vividness(looks: Looks) -> NDArray[np.float64]:
    """0 for a pale or dim shape, 1 for a pure bright colour."""
    chroma = np.clip(looks.saturation, 0.0, 1.0) * np.clip(looks.value, 0.0, 1.0)
    return np.asarray(np.clip((chroma - 0.25) / 0.75, 0.0, 1.0))


def calm(looks: Looks) -> NDArray[np.float64]:
    """1 for an even background, 0 for strong stripes and slopes."""
    return np.asarray(1.0 - np.clip(looks.texture / 0.1 * 0.7 + looks.gradient / 0.12 * 0.3, 0.0, 1.0))


def qualities(looks: Looks, fidelity: NDArray[np.float64]) -> NDArray[np.float64]:
    """The five qualities [n, 5], each in [0, 1]: fidelity, composition, brightness, vividness, calm."""
    return np.stack([fidelity, composition(looks), brightness(looks), vividness(looks), calm(looks)], axis=1)


def utility(values: NDArray[np.float64], weights: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted sum [n] of standardised qualities [n, 5]."""
    means, deviations = np.array(SCALES).T
    return np.asarray((values - means) / deviations @ np.asarray(weights, dtype=np.float64))


def scene_looks(scenes: Sequence[Scene]) -> Looks:
    """The true looks of scenes."""
    return Looks(
        centre_x=np.array([s.centre_x for s in scenes]),
        centre_y=np.array([s.centre_y for s in scenes]),
        radius=np.array([s.radius for s in scenes]),
        luminance=np.array([s.luminance for s in scenes]),
        saturation=np.array([s.saturation for s in scenes]),
        value=np.array([s.value for s in scenes]),
        gradient=np.array([float(np.hypot(s.gradient_x, s.gradient_y)) for s in scenes]),
        texture=np.array([s.amplitude for s in scenes]),
    )


def scene_fidelity(scenes: Sequence[Scene], asked: Sequence[Asked]) -> NDArray[np.float64]:
    """Share [n] of the wish that a scene grants: 0.4 for the shape, 0.4 for the colour, 0.2 for the attribute."""
    return np.array(
        [
            0.4 * (want.shape in (None, scene.shape))
            + 0.4 * (want.colour in (None, scene.colour))
            + 0.2 * holds(scene, want.attribute)
            for scene, want in zip(scenes, asked, strict=True)
        ]
    )


def measured_looks(seen: Measurement) -> Looks:
    """Looks read from pixels."""
    return Looks(
        centre_x=seen.centre_x.astype(np.float64),
        centre_y=seen.centre_y.astype(np.float64),
        radius=seen.radius.astype(np.float64),
        luminance=seen.luminance.astype(np.float64),
        saturation=seen.saturation.astype(np.float64),
        value=seen.value.astype(np.float64),
        gradient=seen.gradient.astype(np.float64),
        texture=seen.texture.astype(np.float64),
    )


def measured_fidelity(seen: Measurement, asked: Sequence[Asked]) -> NDArray[np.float64]:
    """As scene_fidelity, from pixels, with soft edges: partial credit for a likely shape or a near hue."""
    return np.array([_granted(seen, row, want) for row, want in enumerate(asked)])


def _granted(seen: Measurement, row: int, want: Asked) -> float:
    shape = colour = 1.0
    if want.shape is not None:
        evidence = float(seen.shape_evidence[row, SHAPES.index(want.shape)])
        shape = float(np.clip((evidence - 0.7) / 0.3, 0.0, 1.0)) ** 2
    if want.colour is not None:
        gap = float(seen.colour_distance[row, COLOURS.index(want.colour)])
        colour = float(np.exp(-((max(gap - 8.0, 0.0) / 16.0) ** 2)))
    return 0.4 * shape + 0.4 * colour + 0.2 * _attribute_granted(seen, row, want.attribute)


def _attribute_granted(seen: Measurement, row: int, attribute: str) -> float:
    luminance, radius = float(seen.luminance[row]), float(seen.radius[row])
    slack = {
        "plain": 1.0,
        "dark": (DARK_BELOW - luminance) / 0.1,
        "light": (luminance - LIGHT_ABOVE) / 0.1,
        "small": SMALL_BELOW - radius,
        "large": radius - LARGE_ABOVE,
    }[attribute]
    return float(np.clip(0.8 + slack, 0.0, 1.0))
