import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from prefopt.config import RunConfig, parse_config
from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.errors import ConfigError, InputError
from prefopt.models.loading import encode_images, load_pipeline, load_vae, noise_schedule, prediction_type
from prefopt.models.shape import latent_shape
from tests.kit.models import LATENT_SHAPE, RESOLUTION, SIZE, TINY, tiny_pipeline, tiny_vae


@pytest.fixture(scope="module", params=list(TINY))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig(path=str(TINY[request.param](tmp_path_factory.mktemp(request.param) / "model")))


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A VAE that lies alone, as those mended for fp16 are published."""
    place = str(tmp_path_factory.mktemp("vae"))
    tiny_vae(seed=9, scaling_factor=0.5).save_pretrained(place)
    return place


def _config(model: ModelConfig, **score: Any) -> RunConfig:
    tree = {
        "name": "kit",
        "model": model.model_dump(),
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "score": {"resolution": RESOLUTION, **score},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


def _pixels() -> torch.Tensor:
    return torch.rand(2, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_parts_are_frozen_and_can_be_left_out(model: ModelConfig) -> None:
    pipeline = load_pipeline(model, unet=None)
    assert pipeline.unet is None
    assert not pipeline.vae.training
    assert not any(parameter.requires_grad for parameter in pipeline.vae.parameters())
    assert load_pipeline(model, torch.bfloat16, vae=None).unet.dtype == torch.bfloat16


@torch.no_grad()
def test_latents_are_the_scaled_mode(model: ModelConfig) -> None:
    own = DiffusionPipeline.from_pretrained(model.path).vae
    expected = own.encode(_pixels()).latent_dist.mode() * own.config.scaling_factor
    assert torch.allclose(encode_images(load_vae(model), _pixels()), expected, atol=1e-6)


def test_a_given_vae_takes_the_place_of_the_models_own(model: ModelConfig, mended: str) -> None:
    replaced = model.model_copy(update={"vae": mended})
    expected = AutoencoderKL.from_pretrained(mended).state_dict()
    for vae in (load_vae(replaced), load_pipeline(replaced).vae):
        assert all(torch.equal(value, expected[name]) for name, value in vae.state_dict().items())
        assert vae.config.scaling_factor == 0.5
    latents = encode_images(load_vae(replaced), _pixels())
    assert not torch.allclose(latents, encode_images(load_vae(model), _pixels()), atol=1e-3)


def test_the_latent_shape_is_that_of_the_unet_and_the_vae(model: ModelConfig, mended: str) -> None:
    assert latent_shape(_config(model), SIZE) == LATENT_SHAPE
    assert latent_shape(_config(model.model_copy(update={"vae": mended})), Size(64, 40)) == (4, 16, 10)


REGULAR = {"visits": {"inversion": "renoise", "regularisation": {}}}


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ({"resolution": 30}, r"score\.resolution 30 is not a multiple of 4, the VAE's factor\. Take 32\."),
        ({"resolution": 1}, r"score\.resolution 1 .* Take 4\."),
        ({"buckets": [[32, 33]]}, r"score\.buckets \[32, 33\]: both sides .* multiples of 4, .* Take \[32, 32\]\."),
        ({"buckets": [[40, 32]], **REGULAR}, r"multiples of 16, what score\.visits\.regularisation .* \[32, 32\]\."),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(
    model: ModelConfig, score: dict[str, Any], message: str
) -> None:
    config = _config(model, **score)
    with pytest.raises(ConfigError, match=message):
        latent_shape(config, config.score.sizes[0])


def test_a_vae_that_does_not_fit_the_unet_is_refused(model: ModelConfig, tmp_path: Path) -> None:
    AutoencoderKL(latent_channels=8, block_out_channels=(8,), norm_num_groups=4).save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="latents of 8 channels"):
        latent_shape(_config(model.model_copy(update={"vae": str(tmp_path)})), SIZE)


@pytest.mark.parametrize("function", [load_vae, load_pipeline, lambda model: latent_shape(_config(model), SIZE)])
def test_a_missing_vae_is_named(model: ModelConfig, tmp_path: Path, function: Any) -> None:
    with pytest.raises(InputError, match=r"Cannot load the VAE .*/nowhere' \(model\.vae\)"):
        function(model.model_copy(update={"vae": str(tmp_path / "nowhere")}))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    place = tiny_pipeline(tmp_path / "model")
    (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="Cannot load the model"):
        load_pipeline(ModelConfig(path=str(place)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("family", list(TINY))
def test_what_the_unet_predicts_is_the_schedulers_word(tmp_path: Path, family: str, kind: str) -> None:
    model = ModelConfig(path=str(TINY[family](tmp_path, prediction_type=kind)))
    assert prediction_type(load_pipeline(model, vae=None)) == kind


def _with_scheduler(place: Path, **changes: Any) -> ModelConfig:
    config = tiny_pipeline(place) / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return ModelConfig(path=str(place))


def test_another_prediction_is_refused(tmp_path: Path) -> None:
    pipeline = load_pipeline(_with_scheduler(tmp_path, prediction_type="sample"), vae=None)
    with pytest.raises(InputError, match="prediction_type 'sample': only epsilon and v_prediction"):
        prediction_type(pipeline)


def test_a_schedule_that_ends_in_pure_noise_is_refused(tmp_path: Path) -> None:
    pipeline = load_pipeline(_with_scheduler(tmp_path, rescale_betas_zero_snr=True), vae=None)
    with pytest.raises(InputError, match="noise schedule cannot be trained on"):
        noise_schedule(pipeline)
