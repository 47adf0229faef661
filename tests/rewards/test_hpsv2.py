import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prefopt.config import RunConfig
from prefopt.errors import InputError
from prefopt.rewards import reward_spec
from prefopt.rewards.hpsv2 import padded_pixels
from tests.rewards import formulas
from tests.rewards.checkpoints import State, open_clip_state, pictures, run_config, write_vocabulary
from tests.rewards.formulas import clip_tokens, cosine, open_clip_image, open_clip_text

PROMPTS = ["a cat", "The cat &amp;amp; the hat", "cat " * 90, "9 mats?", "the sea"]


@pytest.fixture
def published(tmp_path: Path) -> State:
    state = open_clip_state(2)
    write_vocabulary(tmp_path / "hps")
    half = {name: tensor.half() for name, tensor in state.items()}
    for name in ("HPS_v2_compressed.pt", "HPS_v2.1_compressed.pt"):
        torch.save({"epoch": 3, "name": "x", "state_dict": half}, tmp_path / "hps" / name)
    return {name: tensor.float() for name, tensor in half.items()}


def settings(tmp_path: Path, kind: str = "hpsv2.1", allow: bool = True, **model: object) -> RunConfig:
    place = str(tmp_path / "hps")
    return run_config(tmp_path, allow_pickles=allow, models={kind: {"weights": place, "tokenizer": place, **model}})


def expected(state: State, image: Image.Image, prompt: str, resize: object = formulas.smooth_bicubic) -> float:
    seen = open_clip_image(state, formulas.padded_pixels(image, resize))
    return cosine(seen, open_clip_text(state, clip_tokens(prompt.replace("&amp;amp;", "&"))))


@pytest.mark.parametrize("kind", ["hpsv2", "hpsv2.1"])
def test_it_is_the_cosine_of_the_open_clip_checkpoint(tmp_path: Path, published: State, kind: str) -> None:
    images = pictures(5)
    scores = reward_spec(kind, settings(tmp_path, kind)).load().score(images, PROMPTS)
    assert scores.dtype == np.float32
    wanted = [expected(published, *row) for row in zip(images, PROMPTS, strict=True)]
    assert scores == pytest.approx(wanted, abs=1e-4)
    assert np.ptp(scores) > 0.05


def test_without_antialias_it_is_as_earlier_torchvision(tmp_path: Path, published: State) -> None:
    images = pictures(3)
    smooth, rough = (reward_spec("hpsv2.1", settings(tmp_path, antialias=choice)) for choice in (True, False))
    assert smooth.version != rough.version
    scores = rough.load().score(images, PROMPTS[:3])
    rows = zip(images, PROMPTS[:3], strict=True)
    assert scores == pytest.approx([expected(published, *row, formulas.pointwise_bicubic) for row in rows], abs=1e-4)
    assert not np.allclose(scores, smooth.load().score(images, PROMPTS[:3]), atol=1e-3)


@pytest.mark.parametrize(
    ("antialias", "resize"), [(True, formulas.smooth_bicubic), (False, formulas.pointwise_bicubic)]
)
def test_pixels(antialias: bool, resize: object) -> None:
    for image in pictures(5):
        ours = padded_pixels(image, antialias)
        assert ours.shape == (3, 224, 224)
        assert torch.allclose(ours, formulas.padded_pixels(image, resize), atol=1e-4)


def test_the_shorter_side_is_padded_with_black() -> None:
    white = Image.new("RGB", (448, 112), (255, 255, 255))
    pixels = padded_pixels(white, True)
    black, full = (-0.48145466 / 0.26862954, (1 - 0.48145466) / 0.26862954)
    assert pixels[0, 83].tolist() == pytest.approx([black] * 224)
    assert pixels[0, 84].tolist() == pytest.approx([full] * 224, abs=1e-5)
    assert pixels[0, 139].tolist() == pytest.approx([full] * 224, abs=1e-5)
    assert pixels[0, 140].tolist() == pytest.approx([black] * 224)


def test_pickled_weights_need_permission(tmp_path: Path, published: State) -> None:
    with pytest.raises(InputError, match=r"rewards.models.hpsv2.1.weights: .* holds HPS_v2.1_compressed.pt, a pickled"):
        reward_spec("hpsv2.1", settings(tmp_path, allow=False))
    with pytest.raises(InputError, match=r"xswu/HPSv2@.* has only HPS_v2_compressed.pt.*rewards.allow_pickles: true"):
        reward_spec("hpsv2")
    assert not (tmp_path / "cache").exists()


def test_pickled_weights_are_converted_once(tmp_path: Path, published: State, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = reward_spec("hpsv2", settings(tmp_path, "hpsv2"))
    first = spec.load().score(pictures(2), PROMPTS[:2])
    (converted,) = (tmp_path / "cache" / "converted").glob("*/model.safetensors")
    written = converted.stat().st_mtime_ns
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is read again"))
    again = spec.load().score(pictures(2), PROMPTS[:2])
    assert np.array_equal(first, again)
    assert converted.stat().st_mtime_ns == written


def test_safetensors_of_the_same_name_need_no_permission(tmp_path: Path, published: State) -> None:
    pickled = reward_spec("hpsv2", settings(tmp_path, "hpsv2")).load().score(pictures(1), ["a cat"])
    (converted,) = (tmp_path / "cache" / "converted").glob("*/model.safetensors")
    converted.rename(tmp_path / "hps" / "HPS_v2_compressed.safetensors")
    (tmp_path / "hps" / "HPS_v2_compressed.pt").unlink()
    safe = reward_spec("hpsv2", settings(tmp_path, "hpsv2", allow=False)).load().score(pictures(1), ["a cat"])
    assert np.array_equal(pickled, safe)


class Harm:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (sys.modules["pathlib"].Path.touch, (Path("harm"),))


@pytest.mark.parametrize("content", [{"state_dict": {"x": Harm()}}, [1, 2], {"state_dict": {"x": 1}}, {}])
def test_what_is_no_state_dict_is_refused_and_runs_no_code(
    tmp_path: Path, published: State, content: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "hps" / "HPS_v2_compressed.pt")
    with pytest.raises(InputError, match=r"HPS_v2_compressed.pt (cannot be read as weights|holds no state dict)"):
        reward_spec("hpsv2", settings(tmp_path, "hpsv2")).load()
    assert not (tmp_path / "harm").exists()
    assert not list((tmp_path / "cache" / "converted").glob("*/")), "nothing is left behind"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("visual.proj"), "missing visual.proj"),
        (lambda state: state.pop("ln_final.bias"), "missing ln_final.bias"),
        (
            lambda state: state.pop("transformer.resblocks.1.attn.in_proj_bias"),
            "missing transformer.resblocks.1.attn.in_proj_bias",
        ),
        (lambda state: state.update({"visual.extra": torch.zeros(2)}), "surplus visual.extra"),
        (
            lambda state: state.update({"visual.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(300, 160)}),
            r"resblocks.0.attn.in_proj_weight has the shape \(300, 160\), which does not fit \(160, 160\)",
        ),
    ],
)
def test_other_tensors_are_named_as_published(tmp_path: Path, published: State, change: object, words: str) -> None:
    change(published)
    torch.save({"state_dict": published}, tmp_path / "hps" / "HPS_v2.1_compressed.pt")
    with pytest.raises(InputError, match=f"Weights of 'hpsv2.1': .*{words}"):
        reward_spec("hpsv2.1", settings(tmp_path)).load()
