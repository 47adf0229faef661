"""Every kind of image features on tiny random checkpoints, against computations of its own."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Dinov2Model

from prefopt.config import RunConfig
from prefopt.config.root import ModelConfig
from prefopt.errors import InputError
from prefopt.features import Embedder, embedded, embedder_spec
from prefopt.features.vae import VaeEmbedder, cut_to_multiple
from prefopt.models.loading import load_vae
from tests.features.checkpoints import dinov2_pixels, dinov2_state, dinov2_token, feature_config, write_dinov2
from tests.kit.models import tiny_vae
from tests.rewards.checkpoints import clip_config, clip_state, pictures, write_clip
from tests.rewards.formulas import clip_image, cropped_pixels, gelu, quick_gelu


def load(config: RunConfig) -> Embedder:
    spec = embedder_spec(config)
    assert spec is not None
    return spec.load()


def vae_config(place: Path) -> RunConfig:
    tiny_vae(seed=7).save_pretrained(str(place / "vae"))
    return feature_config(place, {"kind": "vae"}, model={"path": "world", "vae": str(place / "vae")})


def clip_features(place: Path) -> RunConfig:
    weights = write_clip(place / "clip", clip_state(6), clip_config())
    return feature_config(place, {"kind": "clip", "weights": str(weights)})


def dinov2_features(place: Path) -> RunConfig:
    return feature_config(place, {"kind": "dinov2", "weights": str(write_dinov2(place / "dinov2", dinov2_state(5)))})


KINDS = {"vae": vae_config, "clip": clip_features, "dinov2": dinov2_features}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_length_one_and_tell_images_apart(tmp_path: Path, kind: str) -> None:
    embedder = load(KINDS[kind](tmp_path))
    rows = embedded(embedder, pictures(5), batch=2)
    assert embedder.name == kind
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
    cosines = rows @ rows.T
    assert cosines[~np.eye(5, dtype=bool)].max() < 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_other_images_of_a_batch_change_no_bit(tmp_path: Path, kind: str) -> None:
    embedder, images = load(KINDS[kind](tmp_path)), pictures(9)
    first = embedder.embed(images[:4])
    for place in range(4):
        others = images[5:9]
        others[place] = images[place]
        assert np.array_equal(embedder.embed(others)[place], first[place])
    assert np.allclose(embedder.embed(images[:4][::-1])[::-1], first, atol=1e-5)
    assert np.allclose(embedder.embed(images[:1]), first[:1], atol=1e-5)
    padded = embedded(embedder, images[:6], batch=4)
    assert np.array_equal(padded[:4], first)
    assert np.array_equal(padded[4:], embedder.embed([*images[4:6], images[5], images[5]])[:2])


def test_vae_rows_are_averaged_latents(tmp_path: Path) -> None:
    vae = load_vae(ModelConfig(path="world"))
    embedder = VaeEmbedder(vae, "cpu")
    image = pictures(4)[3].resize((38, 54))
    rows = embedder.embed([image])
    pixels = np.asarray(image, dtype=np.float64)[1:53, 1:37] / 127.5 - 1.0  # the middle, in multiples of 4
    with torch.no_grad():
        encoded = vae.encode(torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None])
    latents = encoded.latent_dist.mean[0].double().numpy()
    assert latents.shape == (4, 13, 9)
    cells = np.array([[[_cell(plane, y, x) for x in range(8)] for y in range(8)] for plane in latents]).ravel()
    assert rows[0] == pytest.approx(cells / np.linalg.norm(cells), abs=1e-5)


def _cell(plane: np.ndarray, y: int, x: int) -> float:
    height, width = plane.shape
    top, bottom = math.floor(y * height / 8), math.ceil((y + 1) * height / 8)
    left, right = math.floor(x * width / 8), math.ceil((x + 1) * width / 8)
    return float(plane[top:bottom, left:right].mean())


def test_an_image_is_cut_in_the_middle_to_multiples() -> None:
    image = Image.fromarray(np.arange(11 * 9 * 3, dtype=np.uint8).reshape(9, 11, 3))
    cut = cut_to_multiple(image, 4)
    assert cut.size == (8, 8)
    assert np.array_equal(np.asarray(cut), np.asarray(image)[0:8, 1:9])
    assert np.array_equal(np.asarray(cut_to_multiple(cut, 8)), np.asarray(cut))
    with pytest.raises(ValueError, match="3x9 pixels is smaller than the VAE's factor 4"):
        cut_to_multiple(image.crop((0, 0, 3, 9)), 4)


@pytest.mark.parametrize(
    ("width", "heads", "act"), [(32, 2, quick_gelu), (48, 4, gelu)], ids=["small, quick", "larger, exact"]
)
def test_clip_rows_are_its_image_embeddings(tmp_path: Path, width: int, heads: int, act: Callable[..., Any]) -> None:
    state = clip_state(6, vision=width, text=64)
    config = clip_config(vision=width, text=64, heads=heads, act="gelu" if act is gelu else "quick_gelu")
    place = write_clip(tmp_path / "clip", state, config)
    (place / "vocab.json").unlink()  # what text needs is not asked for
    rows = load(feature_config(tmp_path, {"kind": "clip", "weights": str(place)})).embed(pictures(3))
    for row, image in zip(rows, pictures(3), strict=True):
        wanted = clip_image(state, cropped_pixels(image), heads, act)
        assert row == pytest.approx((wanted / wanted.norm()).numpy(), abs=1e-4)


@pytest.mark.parametrize("grid", [2, 3], ids=["as learned", "interpolated"])
@pytest.mark.parametrize("swiglu", [False, True], ids=["mlp", "swiglu"])
def test_dinov2_rows_are_its_cls_tokens(tmp_path: Path, grid: int, swiglu: bool) -> None:
    state = dinov2_state(5, grid=grid, swiglu=swiglu)
    place = write_dinov2(tmp_path / "dinov2", state, grid=grid, swiglu=swiglu)
    rows = load(feature_config(tmp_path, {"kind": "dinov2", "weights": str(place)})).embed(pictures(3))
    for row, image in zip(rows, pictures(3), strict=True):
        wanted = dinov2_token(state, dinov2_pixels(image))
        assert row == pytest.approx((wanted / wanted.norm()).numpy(), abs=1e-4)


@pytest.mark.parametrize("swiglu", [False, True], ids=["mlp", "swiglu"])
def test_dinov2_is_read_as_transformers_reads_and_saves_it(tmp_path: Path, swiglu: bool) -> None:
    place = write_dinov2(tmp_path / "dinov2", dinov2_state(5, swiglu=swiglu), swiglu=swiglu)
    rows = load(feature_config(tmp_path, {"kind": "dinov2", "weights": str(place)})).embed(pictures(2))
    model = Dinov2Model.from_pretrained(str(place))
    own = write_dinov2(tmp_path / "own", dict(model.state_dict()), swiglu=swiglu)
    again = load(feature_config(tmp_path, {"kind": "dinov2", "weights": str(own)})).embed(pictures(2))
    assert np.array_equal(again, rows)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    config = dinov2_features(tmp_path)
    weights = tmp_path / "dinov2" / "model.safetensors"
    state = load_file(weights)
    del state["encoder.layer.1.attention.attention.key.bias"]
    save_file(state, weights)
    with pytest.raises(InputError, match=r"Weights of 'dinov2': missing encoder.layer.1.attention.attention.key.bias"):
        load(config)
    (tmp_path / "dinov2" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"evaluate.features.weights: .* lacks preprocessor_config.json"):
        embedder_spec(config)


def test_pickled_weights_need_permission(tmp_path: Path) -> None:
    config = clip_features(tmp_path)
    rows = load(config).embed(pictures(1))
    place = tmp_path / "clip"
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model.bin, a pickled file"):
        embedder_spec(config)
    allowed = feature_config(tmp_path, {"kind": "clip", "weights": str(place)}, rewards={"allow_pickles": True})
    assert np.array_equal(load(allowed).embed(pictures(1)), rows)


def test_precision_is_the_rewards(tmp_path: Path) -> None:
    exact = load(clip_features(tmp_path)).embed(pictures(2))
    config = feature_config(
        tmp_path, {"kind": "clip", "weights": str(tmp_path / "clip")}, rewards={"precision": "bf16"}
    )
    rows = embedded(load(config), pictures(2), batch=2)
    assert not np.array_equal(rows, exact)
    assert rows == pytest.approx(exact, abs=0.05)
