import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prefopt.config import RunConfig
from prefopt.errors import InputError
from prefopt.rewards import reward_spec
from prefopt.rewards.blip import UNUSED
from tests.rewards.checkpoints import MED_CONFIG, State, image_reward_state, pictures, run_config, write_words
from tests.rewards.formulas import bert_tokens, cropped_pixels, image_reward

PROMPTS = ["a Cat on the mat!", "dogs", "the cat " * 40, "Zebra a", ""]


@pytest.fixture
def published(tmp_path: Path) -> State:
    state = image_reward_state(3)
    place = write_words(tmp_path / "ir")
    (place / "med_config.json").write_text(json.dumps(MED_CONFIG))
    torch.save(state, place / "ImageReward.pt")
    return state


def settings(tmp_path: Path, allow: bool = True) -> RunConfig:
    place = str(tmp_path / "ir")
    return run_config(tmp_path, allow_pickles=allow, models={"imagereward": {"weights": place, "tokenizer": place}})


def test_it_is_the_standardised_head_of_blip(tmp_path: Path, published: State) -> None:
    images = pictures(5)
    scores = reward_spec("imagereward", settings(tmp_path)).load().score(images, PROMPTS)
    assert scores.dtype == np.float32
    rows = zip(images, PROMPTS, strict=True)
    wanted = [image_reward(published, cropped_pixels(image), bert_tokens(prompt)) for image, prompt in rows]
    assert scores == pytest.approx(wanted, abs=5e-4)
    assert np.ptp(scores) > 0.05


def test_prompt_and_image_both_count(tmp_path: Path, published: State) -> None:
    reward, (first, second) = reward_spec("imagereward", settings(tmp_path)).load(), pictures(2)
    scores = reward.score([first, first, second], ["a cat", "a dog", "a cat"])
    assert len(set(scores.tolist())) == 3


def test_a_long_prompt_is_cut_at_35_tokens(tmp_path: Path, published: State) -> None:
    reward, image = reward_spec("imagereward", settings(tmp_path)).load(), pictures(1)
    short, full, longer = (reward.score(image, ["cat " * count])[0] for count in (32, 33, 90))
    assert short != full == longer


def test_pickled_weights_need_permission(tmp_path: Path, published: State) -> None:
    with pytest.raises(InputError, match=r"holds ImageReward.pt, a pickled file"):
        reward_spec("imagereward", settings(tmp_path, allow=False))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("mlp.layers.4.bias"), "missing mlp.layers.4.bias"),
        (lambda state: state.pop("blip.visual_encoder.norm.bias"), "missing blip.visual_encoder.norm.bias"),
        (lambda state: state.pop("blip.visual_encoder.pos_embed"), "the image encoder"),
        (
            lambda state: state.pop("blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"),
            "missing blip.text_encoder.encoder.layer.1.crossattention.self.key.bias",
        ),
        (lambda state: state.update({"blip.queue": torch.zeros(2)}), "surplus blip.queue"),
        (lambda state: state.update({"mlp.layers.9.bias": torch.zeros(2)}), "surplus mlp.layers.9.bias"),
    ],
)
def test_other_tensors_are_named(tmp_path: Path, published: State, change: object, words: str) -> None:
    change(published)
    torch.save(published, tmp_path / "ir" / "ImageReward.pt")
    with pytest.raises(InputError, match=f"Weights of 'imagereward': .*{words}"):
        reward_spec("imagereward", settings(tmp_path)).load()


def test_a_checkpoint_without_the_unused_parts_loads(tmp_path: Path, published: State) -> None:
    whole = reward_spec("imagereward", settings(tmp_path)).load().score(pictures(1), ["a cat"])
    for name in UNUSED:
        published.pop(name)
    torch.save(published, tmp_path / "ir" / "ImageReward.pt")
    assert np.array_equal(reward_spec("imagereward", settings(tmp_path)).load().score(pictures(1), ["a cat"]), whole)


def test_a_med_config_that_says_too_little(tmp_path: Path, published: State) -> None:
    (tmp_path / "ir" / "med_config.json").write_text(json.dumps({"hidden_size": 48}))
    with pytest.raises(InputError, match=r"Cannot use .*med_config.json: KeyError: 'vocab_size'"):
        reward_spec("imagereward", settings(tmp_path)).load()
