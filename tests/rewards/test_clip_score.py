from pathlib import Path

import numpy as np
import pytest
import torch

from prefopt.errors import InputError
from prefopt.rewards import reward_spec
from tests.rewards.checkpoints import clip_config, clip_state, pictures, run_config, write_clip
from tests.rewards.formulas import clip_image, clip_text, clip_tokens, cosine, cropped_pixels, gelu, quick_gelu

PROMPTS = ["a cat", "the mat & 12", "cat " * 90]


@pytest.mark.parametrize(
    ("width", "heads", "act"), [(32, 2, quick_gelu), (48, 4, gelu)], ids=["small, quick", "larger, exact"]
)
def test_it_is_the_cosine_of_the_chosen_backbone(tmp_path: Path, width: int, heads: int, act: object) -> None:
    state = clip_state(6, vision=width, text=64)
    config = clip_config(vision=width, text=64, heads=heads, act="gelu" if act is gelu else "quick_gelu")
    write_clip(tmp_path / "backbone", state, config)
    models = {"clip-own": {"kind": "clip", "weights": str(tmp_path / "backbone")}}
    reward, images = reward_spec("clip-own", run_config(tmp_path, models=models)).load(), pictures(3)
    assert reward.name == "clip-own"
    scores = reward.score(images, PROMPTS)
    wanted = [
        cosine(clip_image(state, cropped_pixels(image), heads, act), clip_text(state, clip_tokens(prompt), heads, act))
        for image, prompt in zip(images, PROMPTS, strict=True)
    ]
    assert scores.dtype == np.float32
    assert scores == pytest.approx(wanted, abs=1e-4)
    assert np.ptp(scores) > 0.01


def test_weights_as_pytorch_model_bin_need_permission(tmp_path: Path) -> None:
    state = clip_state(6)
    place = write_clip(tmp_path / "backbone", state, clip_config())
    models = {"clip": {"weights": str(place)}}
    safe = reward_spec("clip", run_config(tmp_path, models=models)).load().score(pictures(1), ["a cat"])
    (place / "model.safetensors").unlink()
    torch.save(state, place / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin, a pickled file"):
        reward_spec("clip", run_config(tmp_path, models=models))
    allowed = reward_spec("clip", run_config(tmp_path, allow_pickles=True, models=models)).load()
    assert np.array_equal(allowed.score(pictures(1), ["a cat"]), safe)


def test_a_prompt_is_read_once_and_its_company_changes_nothing(tmp_path: Path) -> None:
    place = write_clip(tmp_path / "backbone", clip_state(6), clip_config())
    spec = reward_spec("clip", run_config(tmp_path, models={"clip": {"weights": str(place)}}))
    reward, images = spec.load(), pictures(4)
    read: list[int] = []
    reward._model.text_model.register_forward_hook(  # type: ignore[attr-defined]
        lambda model, given, told, out: read.append(len(told["input_ids"])), with_kwargs=True
    )
    together = reward.score(images, ["a cat", "a dog", "a cat", "a dog"])
    again = reward.score(images[:2], ["a dog", "a bird"])
    assert len(read) == 2
    assert len(set(read)) == 1
    assert reward.score(images[:1], ["a bird"]).shape == (1,)
    assert len(read) == 2
    alone = spec.load()
    for row, prompt in enumerate(["a cat", "a dog", "a cat", "a dog"]):
        assert np.isclose(alone.score([images[row]], [prompt])[0], together[row], atol=1e-6)
    assert np.isclose(alone.score([images[1]], ["a bird"])[0], again[1], atol=1e-6)


def test_only_so_many_prompts_are_remembered(tmp_path: Path) -> None:
    from prefopt.rewards import clip_model

    place = write_clip(tmp_path / "backbone", clip_state(6), clip_config())
    reward = reward_spec("clip", run_config(tmp_path, models={"clip": {"weights": str(place)}})).load()
    prompts = [f"number {number}" for number in range(clip_model._REMEMBERED + 3)]
    features = reward._prompts  # type: ignore[attr-defined]
    with torch.inference_mode():
        first = features(prompts[:2])
        features(prompts)
        assert list(features._known) == prompts[3:]
        assert torch.equal(features(prompts[:2]), first)
