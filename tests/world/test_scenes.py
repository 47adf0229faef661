import dataclasses

import numpy as np
import pytest

from prefopt.world.scenes import (
    ATTRIBUTES,
    COLOURS,
    SHAPES,
    Prompt,
    Scene,
    all_prompts,
    caption,
    foreground_colour,
    holds,
    render,
    sample_prompt,
    sample_scene,
)
from prefopt.world.vision import parse_prompt


def draw(count: int, seed: int = 0, unfaithful: float = 0.0) -> tuple[list[Prompt], list[Scene]]:
    rng = np.random.default_rng(seed)
    prompts = [sample_prompt(rng) for _ in range(count)]
    return prompts, [sample_scene(rng, prompt, unfaithful) for prompt in prompts]


def test_there_are_at_least_250_distinct_prompts() -> None:
    assert len({prompt.text for prompt in all_prompts()}) == len(all_prompts()) >= 250


def test_a_render_is_a_function_of_the_scene() -> None:
    _, scenes = draw(5)
    for scene in scenes:
        image = render(scene)
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8
        assert np.array_equal(image, render(dataclasses.replace(scene)))


def test_the_middle_of_the_shape_has_its_colour_and_a_far_corner_the_background() -> None:
    _, scenes = draw(1)
    scene = dataclasses.replace(
        scenes[0], shape="circle", centre_x=16.0, centre_y=16.0, radius=8.0, amplitude=0.0, tint=0.0,
        luminance=0.5, gradient_x=0.0, gradient_y=0.0,
    )  # fmt: skip
    image = render(scene)
    assert np.allclose(image[15, 15], foreground_colour(scene) * 255, atol=1)
    assert np.allclose(image[0, 0], 127.5, atol=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_anti_aliased(shape: str) -> None:
    _, scenes = draw(1)
    image = render(dataclasses.replace(scenes[0], shape=shape, amplitude=0.0, gradient_x=0.0, gradient_y=0.0))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 8


def test_faithful_scenes_keep_their_prompts_promise() -> None:
    prompts, scenes = draw(300)
    for prompt, scene in zip(prompts, scenes, strict=True):
        assert (scene.shape, scene.colour) == (prompt.shape, prompt.colour)
        assert holds(scene, prompt.attribute)


def test_unfaithful_scenes_break_exactly_one_promise() -> None:
    prompts, scenes = draw(300, unfaithful=1.0)
    for prompt, scene in zip(prompts, scenes, strict=True):
        broken = [
            scene.shape != prompt.shape,
            scene.colour != prompt.colour,
            not holds(scene, prompt.attribute),
        ]
        assert sum(broken) == 1


def test_about_a_quarter_is_unfaithful_by_default() -> None:
    rng = np.random.default_rng(1)
    prompt = Prompt("circle", "red")
    wrong = [(s.shape, s.colour) != ("circle", "red") for s in (sample_scene(rng, prompt) for _ in range(800))]
    assert 0.19 < np.mean(wrong) < 0.31


def test_a_caption_tells_the_truth_or_is_refused() -> None:
    _, scenes = draw(40)
    for scene in scenes:
        for attribute in ATTRIBUTES:
            if holds(scene, attribute):
                asked = parse_prompt(caption(scene, attribute, wording=2))
                assert (asked.shape, asked.colour, asked.attribute) == (scene.shape, scene.colour, attribute)
            else:
                with pytest.raises(ValueError, match="is not"):
                    caption(scene, attribute)


def test_every_prompt_can_be_read_back() -> None:
    for prompt in all_prompts():
        asked = parse_prompt(prompt.text)
        assert (asked.shape, asked.colour, asked.attribute) == (prompt.shape, prompt.colour, prompt.attribute)
    assert set(COLOURS) == {prompt.colour for prompt in all_prompts()}


def test_a_foreign_prompt_asks_for_nothing_known() -> None:
    asked = parse_prompt("an astronaut riding a horse")
    assert (asked.shape, asked.colour, asked.attribute) == (None, None, "plain")
