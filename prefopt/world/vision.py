"""Reads a picture of the world back from its pixels by analysis-by-synthesis (prefopt).

The best scene is searched among templates (shape x position x size) by one matrix product, then refined; colours
and background follow by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefopt.world.scenes import (
    ATTRIBUTES,
    COLOURS,
    HUES,
    SHAPES,
    SIZE,
    TEXTURES,
    background_basis,
    signed_distance,
)

Floats = NDArray[np.float32]
SOFTNESS = 1.3
BLURS = (1.3, 2.0, 3.0, 4.5, 6.5, 9.0)
"""Edge widths in pixels that a picture is compared with; the world draws 1.0 to 1.6."""
_RADII = (4.0, 5.5, 7.0, 8.5, 10.0, 11.5)
_CENTRES = tuple(np.arange(8.0, 24.5, 1.25))
_STEPS = (0.6, 0.3, 0.15)
_REFINED_SHAPES = 2
_CHUNK = 256


@dataclass(frozen=True)
class Measurement:
    """What n pictures show; every array has n rows.

    shape, colour: indices into SHAPES and COLOURS; shape_evidence [n, 4]: fit of each shape relative to the best
    one, in [0, 1]; colour_distance [n, 6]: degrees from each named hue; centre_x, centre_y, radius in pixels;
    foreground, background: RGB [n, 3]; saturation, value of the shape's colour; luminance and tint of the
    background; gradient, texture: amplitudes; contrast: distance of the two colours in [0, 1]; blur: width of the
    shape's edge in pixels; residual: root mean square of what no sharp-edged scene explains, in [0, 1].
    """

    shape: NDArray[np.int64]
    shape_evidence: Floats
    colour: NDArray[np.int64]
    colour_distance: Floats
    centre_x: Floats
    centre_y: Floats
    radius: Floats
    foreground: Floats
    background: Floats
    saturation: Floats
    value: Floats
    luminance: Floats
    tint: Floats
    gradient: Floats
    texture: Floats
    contrast: Floats
    blur: Floats
    residual: Floats


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for; None where it names nothing that the world knows."""

    shape: str | None
    colour: str | None
    attribute: str


def parse_prompt(prompt: str) -> Asked:
    """Read a prompt back: the first known shape, colour and attribute among its words."""
    words = prompt.lower().replace(",", " ").replace(".", " ").split()

    def first(names: Sequence[str]) -> str | None:
        return next((word for word in words if word in names), None)

    return Asked(first(SHAPES), first(COLOURS), first(ATTRIBUTES) or "plain")


def as_array(images: Sequence[Any] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stack images (uint8 arrays or PIL pictures) to uint8 [n, 32, 32, 3].

    Raises ValueError when one is not a 32x32 RGB picture.
    """
    rows = [np.asarray(image) for image in images]
    for index, row in enumerate(rows):
        if row.shape != (SIZE, SIZE, 3) or row.dtype != np.uint8:
            raise ValueError(f"image {index}: expected uint8 {SIZE}x{SIZE}x3, got {row.dtype} {row.shape}")
    return np.stack(rows) if rows else np.zeros((0, SIZE, SIZE, 3), np.uint8)


def measure(images: Sequence[Any] | NDArray[np.uint8]) -> Measurement:
    """Measure pictures (uint8 [32, 32, 3] arrays or PIL pictures); a row does not depend on its neighbours."""
    return _measure_bytes(as_array(images).tobytes())


@lru_cache(maxsize=4)
def _measure_bytes(pixels: bytes) -> Measurement:
    stack = np.frombuffer(pixels, np.uint8).reshape(-1, SIZE * SIZE, 3)
    parts = [_measure(stack[at : at + _CHUNK]) for at in range(0, max(len(stack), 1), _CHUNK)]
    names = Measurement.__dataclass_fields__
    return Measurement(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@cache
def _coordinates() -> tuple[NDArray[np.float64], NDArray[np.float64], Floats]:
    """Pixel centres x, y [1024] and the background basis [1024, k]."""
    points = np.arange(SIZE) + 0.5
    y, x = np.meshgrid(points, points, indexing="ij")
    x, y = x.ravel(), y.ravel()
    return x, y, background_basis(x, y).astype(np.float32)


def _masks(shape: str, places: NDArray[np.float64], softness: float = SOFTNESS) -> Floats:
    """Coverage [n, 1024] of a shape at places [n, 3] = (centre x, centre y, radius)."""
    x, y, _ = _coordinates()
    distance = signed_distance(shape, x - places[:, 0:1], y - places[:, 1:2], places[:, 2:3])
    return np.clip(0.5 - distance / softness, 0.0, 1.0).astype(np.float32)


@cache
def _templates() -> tuple[Floats, NDArray[np.float64], Floats]:
    """Unit templates [shapes * places, 1024] without background part, places [places, 3], basis Q [1024, k]."""
    places = np.array([(cx, cy, r) for cx in _CENTRES for cy in _CENTRES for r in _RADII])
    q, _ = np.linalg.qr(_coordinates()[2])
    masks = np.concatenate([_masks(shape, places) for shape in SHAPES])
    masks -= (masks @ q) @ q.T
    masks /= np.linalg.norm(masks, axis=1, keepdims=True)
    return masks, places, q


def _measure(stack: NDArray[np.uint8]) -> Measurement:
    pixels = stack.astype(np.float32) / 255.0
    starts = _coarse(pixels)
    energy = np.stack([start[1] for start in starts], axis=1)
    order = np.argsort(-energy, axis=1, kind="stable")
    errors = np.full(energy.shape, np.inf, np.float32)
    fits = [_empty_fit(len(pixels)) for _ in SHAPES]
    for index in range(len(SHAPES)):
        rows = np.flatnonzero((order[:, :_REFINED_SHAPES] == index).any(axis=1))
        if len(rows):
            fit = _refine(SHAPES[index], pixels[rows], starts[index][0][rows])
            _put(fits[index], rows, fit)
            errors[rows, index] = fit.error
    shape = errors.argmin(axis=1)
    best = _pick(fits, shape)
    evidence = (energy / np.maximum(energy.max(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    refined = np.sqrt(errors.min(axis=1, keepdims=True) / np.maximum(errors, 1e-9))
    refined[~np.isfinite(errors)] = 0.0
    evidence = np.where(np.isfinite(errors), refined, 0.6 * evidence)
    return _describe(shape, evidence, best, _blur(shape, pixels, best.places))


def _blur(shape: NDArray[np.int64], pixels: Floats, places: NDArray[np.float64]) -> Floats:
    """The edge width [n] among BLURS that explains each picture best."""
    blur = np.zeros(len(shape), np.float32)
    for index in np.unique(shape):
        rows = np.flatnonzero(shape == index)
        errors = [_solve(SHAPES[index], pixels[rows], places[rows], width).error for width in BLURS]
        blur[rows] = np.array(BLURS)[np.argmin(errors, axis=0)]
    return blur


@dataclass
class _Fit:
    places: NDArray[np.float64]
    weights: Floats
    error: Floats


def _empty_fit(count: int) -> _Fit:
    columns = 4 + 2 * len(TEXTURES)
    return _Fit(np.zeros((count, 3)), np.zeros((count, columns, 3), np.float32), np.full(count, np.inf, np.float32))


def _put(target: _Fit, rows: NDArray[np.int64], fit: _Fit) -> None:
    target.places[rows], target.weights[rows], target.error[rows] = fit.places, fit.weights, fit.error


def _pick(fits: list[_Fit], shape: NDArray[np.int64]) -> _Fit:
    rows = np.arange(len(shape))
    return _Fit(
        np.stack([fit.places for fit in fits])[shape, rows],
        np.stack([fit.weights for fit in fits])[shape, rows],
        np.stack([fit.error for fit in fits])[shape, rows],
    )


def _coarse(pixels: Floats) -> list[tuple[NDArray[np.float64], Floats]]:
    """Per shape the best place [n, 3] of every picture and the energy [n] that its template explains."""
    templates, places, q = _templates()
    count = len(pixels)
    rows = pixels.transpose(0, 2, 1).reshape(count * 3, SIZE * SIZE)
    flat = rows - (rows @ q) @ q.T
    explained = ((flat @ templates.T) ** 2).reshape(count, 3, len(SHAPES), len(places)).sum(axis=1)
    best = explained.argmax(axis=2)
    energy = np.take_along_axis(explained, best[..., None], axis=2)[..., 0]
    return [(places[best[:, k]], energy[:, k]) for k in range(len(SHAPES))]


def _refine(shape: str, pixels: Floats, places: NDArray[np.float64]) -> _Fit:
    """Move each picture's shape downhill in steps of decreasing size."""
    best = _solve(shape, pixels, places)
    for step in _STEPS:
        for axis in range(3):
            for sign in (-1.0, 1.0):
                moved = best.places.copy()
                moved[:, axis] += sign * step
                trial = _solve(shape, pixels, moved)
                better = trial.error < best.error
                best.places[better] = trial.places[better]
                best.weights[better] = trial.weights[better]
                best.error[better] = trial.error[better]
    return best


def _solve(shape: str, pixels: Floats, places: NDArray[np.float64], softness: float = SOFTNESS) -> _Fit:
    """Least squares of foreground colour and background for shapes at given places; error is the mean square."""
    masks = _masks(shape, places, softness)[..., None]
    basis = _coordinates()[2]
    design = np.concatenate([masks, (1.0 - masks) * basis], axis=2)
    across = design.transpose(0, 2, 1)
    gram = across @ design + 1e-3 * np.eye(design.shape[2], dtype=np.float32)
    weights = np.linalg.solve(gram, across @ pixels)
    error = ((pixels - design @ weights) ** 2).mean(axis=(1, 2))
    return _Fit(places.copy(), weights.astype(np.float32), error.astype(np.float32))


def _describe(shape: NDArray[np.int64], evidence: Floats, fit: _Fit, blur: Floats) -> Measurement:
    foreground, background = fit.weights[:, 0], fit.weights[:, 1]
    slopes = fit.weights[:, 2:4].mean(axis=2)
    waves = fit.weights[:, 4:].mean(axis=2)
    high, low = foreground.max(axis=1), foreground.min(axis=1)
    saturation = np.clip((high - low) / np.maximum(high, 1e-3), 0.0, 1.5)
    distance = _hue_distance(foreground)
    return Measurement(
        shape=shape,
        shape_evidence=evidence.astype(np.float32),
        colour=distance.argmin(axis=1),
        colour_distance=distance,
        centre_x=_f32(fit.places[:, 0]),
        centre_y=_f32(fit.places[:, 1]),
        radius=_f32(fit.places[:, 2]),
        foreground=foreground,
        background=background,
        saturation=_f32(saturation),
        value=_f32(high),
        luminance=_f32(background.mean(axis=1)),
        tint=_f32(background.max(axis=1) - background.min(axis=1)),
        gradient=_f32(np.hypot(slopes[:, 0], slopes[:, 1])),
        texture=_f32(np.sqrt((waves**2).sum(axis=1))),
        contrast=_f32(np.linalg.norm(foreground - background, axis=1) / np.sqrt(3.0)),
        blur=blur,
        residual=_f32(np.sqrt(fit.error)),
    )


def _hue_distance(colour: Floats) -> Floats:
    """Degrees [n, 6] between colours [n, 3] and the named hues on the colour circle."""
    red, green, blue = colour.T
    hue = np.degrees(np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue))
    gap = np.abs((hue[:, None] - np.array(HUES)[None, :] + 180.0) % 360.0 - 180.0)
    return _f32(gap)


def _f32(values: NDArray[Any]) -> Floats:
    return values.astype(np.float32)
