from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from prefopt.config import RunConfig
from prefopt.errors import InputError
from prefopt.rewards import reward_spec
from tests.rewards.checkpoints import (
    PROJECTION,
    State,
    clip_config,
    clip_state,
    head_state,
    pictures,
    run_config,
    write_clip,
)
from tests.rewards.formulas import clip_image, cropped_pixels, head, quick_gelu

PUBLISHED = "sac+logos+ava1-l14-linearMSE.pth"


@pytest.fixture
def published(tmp_path: Path) -> tuple[State, State]:
    backbone, layers = clip_state(4), head_state(5, PROJECTION)
    write_clip(tmp_path / "clip", backbone, clip_config(act="quick_gelu"))
    (tmp_path / "head").mkdir()
    save_file(layers, tmp_path / "head" / "model.safetensors")
    return backbone, layers


def settings(tmp_path: Path, allow: bool = False) -> RunConfig:
    places = {"weights": str(tmp_path / "head"), "backbone": str(tmp_path / "clip")}
    return run_config(tmp_path, allow_pickles=allow, models={"aesthetic": places})


def test_it_is_a_linear_head_on_the_normalised_embedding(tmp_path: Path, published: tuple[State, State]) -> None:
    backbone, layers = published
    images = pictures(5)
    scores = reward_spec("aesthetic", settings(tmp_path)).load().score(images, ["any"] * 5)
    assert scores.dtype == np.float32
    seen = [clip_image(backbone, cropped_pixels(image), 2, quick_gelu) for image in images]
    assert scores == pytest.approx([head(layers, x / x.norm()) for x in seen], abs=2e-4)
    assert np.ptp(scores) > 0.05


def test_the_prompt_plays_no_part(tmp_path: Path, published: tuple[State, State]) -> None:
    reward, images = reward_spec("aesthetic", settings(tmp_path)).load(), pictures(2)
    assert np.array_equal(reward.score(images, ["a", "b"]), reward.score(images, ["c", ""]))


def test_the_published_pickle_gives_the_same(tmp_path: Path, published: tuple[State, State]) -> None:
    safe = reward_spec("aesthetic", settings(tmp_path)).load().score(pictures(2), ["", ""])
    torch.save(published[1], tmp_path / "head" / PUBLISHED)
    (tmp_path / "head" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="a pickled file"):
        reward_spec("aesthetic", settings(tmp_path))
    pickled = reward_spec("aesthetic", settings(tmp_path, allow=True)).load().score(pictures(2), ["", ""])
    assert np.array_equal(pickled, safe)


def test_other_tensors_are_named(tmp_path: Path, published: tuple[State, State]) -> None:
    backbone, layers = published
    save_file({**layers, "layers.8.weight": torch.zeros(1)}, tmp_path / "head" / "model.safetensors")
    with pytest.raises(InputError, match=r"Head of 'aesthetic': surplus layers.8.weight"):
        reward_spec("aesthetic", settings(tmp_path)).load()
    save_file({name: x for name, x in layers.items() if name != "layers.7.bias"}, tmp_path / "head/model.safetensors")
    with pytest.raises(InputError, match=r"Head of 'aesthetic': missing layers.7.bias"):
        reward_spec("aesthetic", settings(tmp_path)).load()
    save_file(head_state(5, 30), tmp_path / "head" / "model.safetensors")
    with pytest.raises(
        InputError, match=r"layers.0.weight has the shape \(1024, 30\), which does not fit \(1024, 24\)"
    ):
        reward_spec("aesthetic", settings(tmp_path)).load()
    save_file({**backbone, "surprise": torch.zeros(1)}, tmp_path / "clip" / "model.safetensors")
    with pytest.raises(InputError, match=r"Backbone of 'aesthetic': surplus surprise"):
        reward_spec("aesthetic", settings(tmp_path)).load()
