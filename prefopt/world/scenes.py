"""Scenes of the embedded world: what an image shows, how it is drawn and how it is described (prefopt)."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 32
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
HUES = (0.0, 55.0, 125.0, 182.0, 228.0, 292.0)
ATTRIBUTES = ("plain", "dark", "light", "small", "large")
WORDINGS = 4
TEXTURES = ((8.0, 0.0), (0.0, 8.0), (11.0, 11.0), (11.0, -11.0))
"""Stripe periods in pixels along x and y of the background textures (0 = no change along that axis)."""

RADIUS_RANGE = (4.5, 11.5)
CENTRE_RANGE = (9.0, 23.0)
LUMINANCE_RANGE = (0.12, 0.88)
SATURATION_RANGE = (0.45, 1.0)
VALUE_RANGE = (0.6, 1.0)
MAX_TINT = 0.22
MAX_GRADIENT = 0.12
MAX_TEXTURE = 0.1
SOFTNESS_RANGE = (1.0, 1.6)
DARK_BELOW = 0.4
LIGHT_ABOVE = 0.6
SMALL_BELOW = 6.8
LARGE_ABOVE = 9.2
UNFAITHFUL = 0.25

_PATTERNS = (
    "a {size}{colour} {shape}{ground}",
    "one {size}{colour} {shape}{ground}",
    "a picture of a {size}{colour} {shape}{ground}",
    "we see a {size}{colour} {shape}{ground}",
)


@dataclass(frozen=True)
class Prompt:
    """What a caption asks for. attribute is one of ATTRIBUTES; wording picks one of WORDINGS phrasings."""

    shape: str
    colour: str
    attribute: str = "plain"
    wording: int = 0

    @property
    def text(self) -> str:
        """The caption in words."""
        size = f"{self.attribute} " if self.attribute in ("small", "large") else ""
        ground = f" on a {self.attribute} background" if self.attribute in ("dark", "light") else ""
        return _PATTERNS[self.wording].format(size=size, colour=self.colour, shape=self.shape, ground=ground)


@dataclass(frozen=True)
class Scene:
    """Ground truth of one image. Lengths in pixels of the 32x32 image, colours and amplitudes in [0, 1].

    centre_x, centre_y, radius: where and how large; hue (degrees), saturation, value: the shape's colour;
    luminance, tint_hue, tint: the background's grey level and colour cast; gradient_x, gradient_y: change of
    the background's level from the middle to the border; texture, amplitude, phase: stripes; softness: edge width.
    """

    shape: str
    colour: str
    centre_x: float
    centre_y: float
    radius: float
    hue: float
    saturation: float
    value: float
    luminance: float
    tint_hue: float
    tint: float
    gradient_x: float
    gradient_y: float
    texture: int
    amplitude: float
    phase: float
    softness: float


def sample_prompt(rng: np.random.Generator) -> Prompt:
    """Draw a prompt uniformly from the world's 480."""
    return Prompt(
        shape=SHAPES[int(rng.integers(len(SHAPES)))],
        colour=COLOURS[int(rng.integers(len(COLOURS)))],
        attribute=ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))],
        wording=int(rng.integers(WORDINGS)),
    )


def all_prompts() -> list[Prompt]:
    """Every prompt of the world, in a fixed order."""
    return [
        Prompt(shape, colour, attribute, wording)
        for shape in SHAPES
        for colour in COLOURS
        for attribute in ATTRIBUTES
        for wording in range(WORDINGS)
    ]


def sample_scene(rng: np.random.Generator, prompt: Prompt | None = None, unfaithful: float = UNFAITHFUL) -> Scene:
    """Draw a scene for a prompt (for a random one when None).

    With probability `unfaithful` one thing the prompt asks for (shape, colour or attribute) is wrong.
    """
    asked = sample_prompt(rng) if prompt is None else prompt
    shape, colour, attribute = asked.shape, asked.colour, asked.attribute
    if rng.random() < unfaithful:
        kinds = 2 if attribute == "plain" else 3
        kind = int(rng.integers(kinds))
        if kind == 0:
            shape = _another(rng, SHAPES, shape)
        elif kind == 1:
            colour = _another(rng, COLOURS, colour)
        else:
            attribute = {"dark": "light", "light": "dark", "small": "large", "large": "small"}[attribute]
    return _draw(rng, shape, colour, attribute)


def _another(rng: np.random.Generator, names: tuple[str, ...], name: str) -> str:
    others = [other for other in names if other != name]
    return others[int(rng.integers(len(others)))]


def _draw(rng: np.random.Generator, shape: str, colour: str, attribute: str) -> Scene:
    luminance_range = {
        "dark": (LUMINANCE_RANGE[0], DARK_BELOW - 0.02),
        "light": (LIGHT_ABOVE + 0.02, LUMINANCE_RANGE[1]),
    }.get(attribute, LUMINANCE_RANGE)
    radius_range = {
        "small": (RADIUS_RANGE[0], SMALL_BELOW - 0.3),
        "large": (LARGE_ABOVE + 0.3, RADIUS_RANGE[1]),
    }.get(attribute, RADIUS_RANGE)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = rng.uniform(0.0, MAX_GRADIENT)
    textured = rng.random() < 0.6
    return Scene(
        shape=shape,
        colour=colour,
        centre_x=float(rng.uniform(*CENTRE_RANGE)),
        centre_y=float(rng.uniform(*CENTRE_RANGE)),
        radius=float(rng.uniform(*radius_range)),
        hue=float((HUES[COLOURS.index(colour)] + rng.uniform(-8.0, 8.0)) % 360.0),
        saturation=float(rng.uniform(*SATURATION_RANGE)),
        value=float(rng.uniform(*VALUE_RANGE)),
        luminance=float(rng.uniform(*luminance_range)),
        tint_hue=float(rng.uniform(0.0, 360.0)),
        tint=float(rng.uniform(0.0, MAX_TINT)),
        gradient_x=float(slope * np.cos(angle)),
        gradient_y=float(slope * np.sin(angle)),
        texture=int(rng.integers(len(TEXTURES))),
        amplitude=float(rng.uniform(0.02, MAX_TEXTURE)) if textured else 0.0,
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        softness=float(rng.uniform(*SOFTNESS_RANGE)),
    )


def caption(scene: Scene, attribute: str = "plain", wording: int = 0) -> str:
    """A truthful caption of a scene. attribute names what else is told about it.

    Raises ValueError when the attribute does not hold for the scene.
    """
    if not holds(scene, attribute):
        raise ValueError(f"the scene is not {attribute!r}")
    return Prompt(scene.shape, scene.colour, attribute, wording).text


def holds(scene: Scene, attribute: str) -> bool:
    """Whether an attribute is true of a scene."""
    truths = {
        "plain": True,
        "dark": scene.luminance < DARK_BELOW,
        "light": scene.luminance > LIGHT_ABOVE,
        "small": scene.radius < SMALL_BELOW,
        "large": scene.radius > LARGE_ABOVE,
    }
    return truths[attribute]


def signed_distance(
    shape: str, x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Distance to a shape's edge in pixels, negative inside; x and y relative to the shape's centre."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.86 * radius
    if shape == "triangle":
        side = 0.8660254037844386 * np.abs(x) - 0.5 * y
        return np.maximum(side, y) - 0.6 * radius
    if shape == "cross":
        wide = np.maximum(np.abs(x) - radius, np.abs(y) - 0.34 * radius)
        tall = np.maximum(np.abs(x) - 0.34 * radius, np.abs(y) - radius)
        return np.minimum(wide, tall)
    raise ValueError(f"unknown shape {shape!r}")


def background_basis(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Background functions at pixel coordinates x, y: constant, two slopes, a cosine and sine per texture.

    Returns the coordinates' shape with one more axis of length 3 + 2 * len(TEXTURES).
    """
    half = SIZE / 2
    columns = [np.ones_like(x), (x - half) / half, (y - half) / half]
    for period_x, period_y in TEXTURES:
        turn = 2.0 * np.pi * (_over(x, period_x) + _over(y, period_y))
        columns += [np.cos(turn), np.sin(turn)]
    return np.stack(columns, axis=-1)


def _over(coordinate: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    return coordinate / period if period else np.zeros_like(coordinate)


def background_colour(scene: Scene) -> NDArray[np.float64]:
    """RGB [3] of the background without slope and texture: grey of the scene's luminance plus a colour cast."""
    cast = np.array(colorsys.hsv_to_rgb(scene.tint_hue / 360.0, 1.0, 1.0))
    return np.asarray(scene.luminance + scene.tint * (cast - cast.mean()) * 0.5)


def foreground_colour(scene: Scene) -> NDArray[np.float64]:
    """RGB [3] of the shape."""
    return np.array(colorsys.hsv_to_rgb(scene.hue / 360.0, scene.saturation, scene.value))


@cache
def _grid(samples: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates x, y [n, n] of the sample points and the background basis [k, n, n] there."""
    points = (np.arange(SIZE * samples) + 0.5) / samples
    y, x = np.meshgrid(points, points, indexing="ij")
    return x, y, np.ascontiguousarray(np.moveaxis(background_basis(x, y), -1, 0))


def render(scene: Scene, samples: int = 3) -> NDArray[np.uint8]:
    """Draw a scene as uint8 [32, 32, 3] with `samples` x `samples` points per pixel."""
    x, y, basis = _grid(samples)
    distance = signed_distance(scene.shape, x - scene.centre_x, y - scene.centre_y, scene.radius)
    inside = np.clip(0.5 - distance / scene.softness, 0.0, 1.0)[..., None]
    first = 3 + 2 * scene.texture
    level = (
        scene.gradient_x * basis[1]
        + scene.gradient_y * basis[2]
        + scene.amplitude * np.cos(scene.phase) * basis[first]
        + scene.amplitude * np.sin(scene.phase) * basis[first + 1]
    )
    ground = background_colour(scene) + level[..., None]
    colour = ground + inside * (foreground_colour(scene) - ground)
    pixels = colour.reshape(SIZE, samples, SIZE, samples, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255.0), dtype=np.uint8)
