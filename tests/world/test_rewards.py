import dataclasses
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from prefopt.world.annotators import preference
from prefopt.world.dataset import world_pair
from prefopt.world.rewards import WORLD_REWARDS, WorldReward, left_world
from prefopt.world.scenes import Prompt, Scene, render, sample_scene
from prefopt.world.taste import TASTES
from prefopt.world.vision import measure

Pairs: TypeAlias = tuple[NDArray[np.float64], dict[str, NDArray[np.float32]]]
NAMES = ("fidelity", "composition", "style", "taste", "clutter", "true")


def reward(name: str) -> WorldReward:
    return WORLD_REWARDS[f"world/{name}"]()


def liked_scene() -> Scene:
    """What the majority likes best: a vivid, centred shape of middle size on an even light ground."""
    scene = sample_scene(np.random.default_rng(0), Prompt("circle", "red"), 0.0)
    return dataclasses.replace(
        scene, centre_x=16.0, centre_y=16.0, radius=8.5, hue=0.0, saturation=1.0, value=1.0, luminance=0.78,
        tint=0.0, gradient_x=0.0, gradient_y=0.0, amplitude=0.0,
    )  # fmt: skip


def score(name: str, scenes: list[Scene], prompts: list[str]) -> NDArray[np.float32]:
    return reward(name).score([render(scene) for scene in scenes], prompts)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    pairs = [world_pair(5, index) for index in range(250)]
    truth = np.array([preference(TASTES["majority"], pair.first, pair.second, pair.prompt) for pair in pairs])
    prompts = [pair.prompt for pair in pairs]
    first, second = ([render(getattr(pair, side)) for pair in pairs] for side in ("first", "second"))
    margins = {name: reward(name).score(first, prompts) - reward(name).score(second, prompts) for name in NAMES}
    return truth, margins


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_has_its_name_and_scores_finite_float32_without_chance(name: str) -> None:
    rng = np.random.default_rng(1)
    images = [render(sample_scene(rng)) for _ in range(6)]
    images.append(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    images.append(np.zeros((32, 32, 3), np.uint8))
    prompts = ["a red circle"] * 7 + ["an astronaut"]
    scores = reward(name).score(images, prompts)
    assert reward(name).name == f"world/{name}"
    assert scores.dtype == np.float32
    assert scores.shape == (8,)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, reward(name).score([Image.fromarray(image) for image in images], prompts))


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="prompts"):
        reward("style").score([np.zeros((32, 32, 3), np.uint8)], [])


def test_no_images_no_scores() -> None:
    assert reward("true").score([], []).shape == (0,)


@pytest.mark.parametrize("wish", ["a blue circle", "a red square", "a red circle on a dark background"])
def test_fidelity_falls_with_every_broken_promise(wish: str) -> None:
    kept, broken = score("fidelity", [liked_scene()] * 2, ["a red circle on a light background", wish])
    assert kept > broken + 0.15


def test_composition_sees_the_place_and_style_does_not() -> None:
    moved = dataclasses.replace(liked_scene(), centre_x=9.5, centre_y=22.0)
    prompts = ["a red circle"] * 2
    in_place, away = score("composition", [liked_scene(), moved], prompts)
    assert in_place > away + 0.3
    same, other = score("style", [liked_scene(), moved], prompts)
    assert same == pytest.approx(other, abs=0.05)


def test_style_sees_light_and_colour_and_fidelity_does_not() -> None:
    dull = dataclasses.replace(liked_scene(), luminance=0.2, saturation=0.5)
    prompts = ["a red circle"] * 2
    bright, dark = score("style", [liked_scene(), dull], prompts)
    assert bright > dark + 0.4
    assert np.ptp(score("fidelity", [liked_scene(), dull], prompts)) < 0.05


def test_clutter_prefers_an_even_background() -> None:
    busy = dataclasses.replace(liked_scene(), amplitude=0.1)
    even, striped = score("clutter", [liked_scene(), busy], ["a red circle"] * 2)
    assert even > striped + 0.4


def test_fidelity_and_style_can_disagree() -> None:
    wrong = liked_scene()
    right = dataclasses.replace(wrong, luminance=0.2, amplitude=0.08)
    prompts = ["a red circle on a dark background"] * 2
    assert np.diff(score("fidelity", [wrong, right], prompts))[0] > 0
    assert np.diff(score("style", [wrong, right], prompts))[0] < 0


def test_the_true_reward_is_the_majoritys_taste(pairs: Pairs) -> None:
    truth, margins = pairs
    assert np.mean((margins["true"] > 0) == (truth > 0)) > 0.95


def test_every_other_reward_is_informative_but_imperfect(pairs: Pairs) -> None:
    truth, margins = pairs
    for name in NAMES[:-1]:
        informed = margins[name] != 0
        accuracy = np.mean((margins[name] > 0)[informed] == (truth > 0)[informed])
        assert 0.52 < accuracy < 0.92, name
    assert np.mean((margins["taste"] > 0) == (truth > 0)) > 0.75


def test_world_pictures_have_not_left_the_world() -> None:
    rng = np.random.default_rng(2)
    images = [render(sample_scene(rng)) for _ in range(200)]
    assert np.quantile(left_world(measure(images)), 0.95) < 0.1


def test_taste_likes_pictures_beyond_the_world_and_truth_punishes_them() -> None:
    """Over-bright, over-coloured, and smeared pictures please the proxy; the true preference sees them."""
    inside = dataclasses.replace(liked_scene(), luminance=0.7, saturation=0.75, value=0.85)
    good = render(inside)
    glaring = render(dataclasses.replace(inside, luminance=1.0, saturation=1.0, value=1.0))
    smear = gaussian_filter(glaring.astype(float), (3, 3, 0)).astype(np.uint8)
    prompts = ["a red circle"] * 3
    liked = reward("taste").score([good, glaring, smear], prompts)
    true = reward("true").score([good, glaring, smear], prompts)
    assert liked[1] > liked[0]
    assert true[0] > true[1] + 1.0
    assert true[0] > true[2] + 1.0


def test_noise_and_blank_pictures_are_worst() -> None:
    rng = np.random.default_rng(4)
    noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    blank = np.full((32, 32, 3), 200, np.uint8)
    dull = dataclasses.replace(liked_scene(), luminance=0.2, centre_x=9.0, saturation=0.5, amplitude=0.09)
    bad, *worse = reward("true").score([render(dull), noise, blank], ["a red circle"] * 3)
    assert max(worse) < bad
