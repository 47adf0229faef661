import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from prefopt.config import RunConfig
from prefopt.errors import InputError
from prefopt.rewards import reward_spec
from tests.rewards.checkpoints import State, clip_config, clip_state, pictures, run_config, write_clip
from tests.rewards.formulas import clip_image, clip_text, clip_tokens, cosine, cropped_pixels, gelu

PROMPTS = ["a Cat on 2 mats", "the  CAT's  mat!", "x", "cat " * 100, ""]


@pytest.fixture
def published(tmp_path: Path) -> State:
    state = clip_state(1)
    write_clip(tmp_path / "pickscore", state, clip_config())
    return state


def settings(tmp_path: Path, **rewards: object) -> RunConfig:
    place = str(tmp_path / "pickscore")
    return run_config(tmp_path, models={"pickscore": {"weights": place, "processor": place}}, **rewards)


def expected(state: State, image: Image.Image, prompt: str) -> float:
    seen = clip_image(state, cropped_pixels(image), 2, gelu)
    read = clip_text(state, clip_tokens(prompt), 2, gelu)
    return float(torch.exp(state["logit_scale"])) * cosine(seen, read)


def test_it_is_logit_scale_times_cosine(tmp_path: Path, published: State) -> None:
    images = pictures(5)
    scores = reward_spec("pickscore", settings(tmp_path)).load().score(images, PROMPTS)
    assert scores.dtype == np.float32
    assert scores.shape == (5,)
    wanted = [expected(published, *row) for row in zip(images, PROMPTS, strict=True)]
    assert scores == pytest.approx(wanted, abs=2e-3)
    assert np.ptp(scores) > 5.0, "random weights tell these images apart"


def test_a_long_prompt_is_cut_at_77_tokens(tmp_path: Path, published: State) -> None:
    reward, image = reward_spec("pickscore", settings(tmp_path)).load(), pictures(1)
    assert len(clip_tokens("cat " * 100)) == 77
    short, long, longer = (reward.score(image, ["cat " * count])[0] for count in (74, 75, 200))
    assert long == longer != short


def test_a_score_does_not_depend_on_its_neighbours(tmp_path: Path, published: State) -> None:
    reward, images = reward_spec("pickscore", settings(tmp_path)).load(), pictures(4)
    forwards = reward.score(images, PROMPTS[:4])
    assert np.array_equal(reward.score(images[::-1], PROMPTS[:4][::-1])[::-1], forwards)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_close_and_is_another_version(tmp_path: Path, published: State, precision: str) -> None:
    full, half = (reward_spec("pickscore", settings(tmp_path, precision=p)) for p in ("fp32", precision))
    assert full.version != half.version
    assert half.resources.memory == full.resources.memory / 2
    images = pictures(3)
    low, high = (spec.load().score(images, PROMPTS[:3]) for spec in (half, full))
    assert low.dtype == np.float32
    assert low == pytest.approx(high, abs=1.5)
    assert not np.array_equal(low, high)


def test_its_version_follows_content_and_not_place(tmp_path: Path, published: State) -> None:
    version = reward_spec("pickscore", settings(tmp_path)).version
    (tmp_path / "pickscore").rename(tmp_path / "elsewhere")
    places = {"weights": str(tmp_path / "elsewhere"), "processor": str(tmp_path / "elsewhere")}
    assert reward_spec("pickscore", run_config(tmp_path, models={"pickscore": places})).version == version
    changed = {**published, "logit_scale": torch.tensor(4.5)}
    save_file(changed, tmp_path / "elsewhere" / "model.safetensors")
    assert reward_spec("pickscore", run_config(tmp_path, models={"pickscore": places})).version != version
    save_file(published, tmp_path / "elsewhere" / "model.safetensors")
    assert reward_spec("pickscore", run_config(tmp_path, models={"pickscore": places})).version == version
    processor = tmp_path / "elsewhere" / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace("224", "200"))
    assert reward_spec("pickscore", run_config(tmp_path, models={"pickscore": places})).version != version


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("text_projection.weight"), "missing text_projection.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "surplus extra"),
        (
            lambda state: state.update({"visual_projection.weight": torch.zeros(24, 5)}),
            r"visual_projection.weight has the shape \(24, 5\), which does not fit \(24, 32\)",
        ),
    ],
)
def test_other_tensors_are_named(tmp_path: Path, published: State, change: object, words: str) -> None:
    change(published)
    save_file(published, tmp_path / "pickscore" / "model.safetensors")
    with pytest.raises(InputError, match=f"Weights of 'pickscore'.*{words}"):
        reward_spec("pickscore", settings(tmp_path)).load()


def test_damaged_files_are_named(tmp_path: Path, published: State) -> None:
    place = tmp_path / "pickscore"
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[:-7])
    with pytest.raises(InputError, match=r"model.safetensors is not a whole safetensors file"):
        reward_spec("pickscore", settings(tmp_path)).load()
    (place / "model.safetensors").write_bytes(whole)
    (place / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"Cannot use .*config.json"):
        reward_spec("pickscore", settings(tmp_path)).load()
    (place / "config.json").write_text(json.dumps(clip_config()))
    (place / "vocab.json").write_text("[1")
    with pytest.raises(InputError, match=r"Cannot use .*vocab.json"):
        reward_spec("pickscore", settings(tmp_path)).load()


def test_a_missing_file_is_found_before_any_work(tmp_path: Path, published: State) -> None:
    (tmp_path / "pickscore" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"rewards.models.pickscore.processor: .*pickscore lacks merges.txt"):
        reward_spec("pickscore", settings(tmp_path))
    (tmp_path / "pickscore" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights: .* holds none of model.safetensors, pytorch_model.bin"):
        reward_spec("pickscore", settings(tmp_path))
