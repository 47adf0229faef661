from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from prefopt.world.scenes import COLOURS, SHAPES, Scene, render, sample_scene
from prefopt.world.vision import Measurement, measure

World: TypeAlias = tuple[list[Scene], NDArray[np.uint8], Measurement]


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng) for _ in range(240)]
    images = np.stack([render(scene) for scene in scenes])
    return scenes, images, measure(images)


def test_shape_and_colour_are_recovered(world: World) -> None:
    scenes, _, seen = world
    assert np.mean([SHAPES[k] == scene.shape for k, scene in zip(seen.shape, scenes, strict=True)]) > 0.97
    assert np.mean([COLOURS[k] == scene.colour for k, scene in zip(seen.colour, scenes, strict=True)]) > 0.97


@pytest.mark.parametrize(
    ("field", "truth", "tolerance"),
    [
        ("centre_x", "centre_x", 0.3),
        ("centre_y", "centre_y", 0.3),
        ("radius", "radius", 0.3),
        ("luminance", "luminance", 0.01),
        ("saturation", "saturation", 0.05),
        ("value", "value", 0.05),
        ("texture", "amplitude", 0.01),
    ],
)
def test_lengths_and_levels_are_recovered(world: World, field: str, truth: str, tolerance: float) -> None:
    scenes, _, seen = world
    errors = np.abs(getattr(seen, field) - np.array([getattr(scene, truth) for scene in scenes]))
    assert np.quantile(errors, 0.95) < tolerance


def test_renders_leave_little_unexplained_and_noise_leaves_much(world: World) -> None:
    _, _, seen = world
    noise = measure(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))
    assert np.quantile(seen.residual, 0.99) < 0.03
    assert noise.residual.min() > 0.1


def test_smears_show_as_blur(world: World) -> None:
    _, images, seen = world
    smeared = [gaussian_filter(image.astype(float), (3, 3, 0)).astype(np.uint8) for image in images[:60]]
    assert np.quantile(seen.blur, 0.99) <= 2.0
    assert np.quantile(measure(smeared).blur, 0.1) >= 4.0


def test_an_unknown_shape_leaves_more_unexplained_than_any_render(world: World) -> None:
    _, _, seen = world
    image = np.full((32, 32, 3), 128, np.uint8)
    image[2:30, 8:11] = image[2:5, 8:26] = image[27:30, 8:26] = (255, 0, 0)
    assert measure([image]).residual[0] > 2 * seen.residual.max()


def test_a_picture_is_measured_the_same_alone_and_in_company(world: World) -> None:
    _, images, seen = world
    alone = measure(images[5:6])
    assert alone.shape[0] == seen.shape[5]
    assert alone.radius[0] == pytest.approx(seen.radius[5], abs=1e-5)
    assert alone.residual[0] == pytest.approx(seen.residual[5], abs=1e-5)


def test_pil_pictures_and_arrays_are_one(world: World) -> None:
    _, images, _ = world
    pictures = [Image.fromarray(image) for image in images[:3]]
    assert np.array_equal(measure(pictures).luminance, measure(images[:3]).luminance)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="image 0"):
        measure([np.zeros((16, 16, 3), np.uint8)])


def test_no_pictures_give_no_rows() -> None:
    assert len(measure([]).residual) == 0
