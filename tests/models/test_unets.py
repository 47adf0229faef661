from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.errors import ConfigError, InputError
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.families import predict
from prefopt.models.identity import LORA_WEIGHTS
from prefopt.models.loading import load_pipeline
from prefopt.models.sources import WeightsSource, base_weights, find_weights
from prefopt.models.unets import load_adapter, load_unet, read_adapter, start_adapter
from tests.kit.models import LATENT_SHAPE, TINY, conditioning_of, tiny_sdxl_unet, tiny_unet
from tests.kit.weights import LORA, lora_directory


class Lab:
    """A base model of one family, another full model, and an adapter."""

    def __init__(self, root: Path, family: str) -> None:
        self.family = family
        self.base = base_weights(ModelConfig(path=str(TINY[family](root / "base"))))
        self.other = self.find(TINY[family](root / "other", seed=5))
        self.lora = self.find(lora_directory(root / "lora", load_unet(self.base, self.base)))

    def find(self, place: Path) -> WeightsSource:
        return find_weights(str(place), "train.init_from", [self.base])

    @torch.no_grad()
    def output(self, unet: torch.nn.Module) -> Tensor:
        told = conditioning_of(load_pipeline(self.base.as_model, vae=None), ["a red circle", ""])
        x = torch.randn(2, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
        return predict(unet, x, torch.tensor([10, 700]), told)


@pytest.fixture(scope="module", params=list(TINY))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp(request.param), request.param)


def test_a_full_models_unet_is_its_own(lab: Lab) -> None:
    unet = load_unet(lab.other, lab.base)
    expected = UNet2DConditionModel.from_pretrained(lab.other.place, subfolder="unet").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in unet.state_dict().items())
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    assert load_unet(lab.other, lab.base, torch.bfloat16).dtype == torch.bfloat16


def test_adapters_are_merged_into_the_weights(lab: Lab) -> None:
    plain = load_pipeline(lab.base.as_model)
    before = lab.output(plain.unet)
    plain.load_lora_weights(lab.lora.place)
    merged = load_unet(lab.lora, lab.base)
    assert set(merged.state_dict()) == set(load_unet(lab.base, lab.base).state_dict())
    assert torch.allclose(lab.output(merged), lab.output(plain.unet), atol=1e-5)
    assert float((lab.output(merged) - before).abs().max()) > 1e-2


def test_what_is_read_of_an_adapter_starts_another(lab: Lab) -> None:
    unet = load_unet(lab.base, lab.base)
    names = set(unet.state_dict())
    adapter = read_adapter(unet, lab.lora)
    assert set(unet.state_dict()) == names
    assert set(adapter.scales.values()) == {LORA.alpha / LORA.rank}
    add_adapters(unet, LORA, (POLICY,), seed=3)
    start_adapter(unet, POLICY, adapter, LORA, "train.init_from")
    loaded = load_unet(lab.base, lab.base)
    load_adapter(loaded, lab.lora, "reference")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(lab.output(unet), lab.output(loaded))


def test_weights_of_a_text_encoder_are_not_dropped(lab: Lab, tmp_path: Path) -> None:
    tensors = load_file(Path(lab.lora.place) / LORA_WEIGHTS)
    count = len(tensors)
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    tensors |= {f"{layer}.lora_A.weight": torch.zeros(4, 8), f"{layer}.lora_B.weight": torch.zeros(8, 4)}
    save_file(tensors, tmp_path / LORA_WEIGHTS)
    found = lab.find(tmp_path)
    with pytest.raises(ConfigError, match=rf"beside {count} tensors of unet there are 2 of text_encoder\."):
        read_adapter(load_unet(lab.base, lab.base), found)


@pytest.mark.parametrize(
    "changed", [{"rank": 8, "alpha": 8.0}, {"alpha": 8.0}, {"targets": ("to_q",)}], ids=["rank", "alpha", "targets"]
)
def test_another_kind_of_adapter_is_a_config_error(lab: Lab, changed: dict[str, object]) -> None:
    unet = load_unet(lab.base, lab.base)
    config = LoraConfig(**{**LORA.model_dump(), **changed})
    adapter = read_adapter(unet, lab.lora)
    add_adapters(unet, config, (POLICY,), seed=0)
    with pytest.raises(ConfigError, match=r"not what train\.init_from was trained with \(rank 4, alpha / rank 1, "):
        start_adapter(unet, POLICY, adapter, config, "train.init_from")


def test_an_adapter_that_does_not_fit_is_refused(lab: Lab, tmp_path: Path) -> None:
    unet = tiny_sdxl_unet() if lab.family == "sd15" else tiny_unet()
    stranger = lab.find(lora_directory(tmp_path / "lora", unet))
    with pytest.raises(InputError, match="Cannot load the adapter lora"):
        load_adapter(load_unet(lab.base, lab.base), stranger, "reference")


def test_a_model_of_the_other_family_is_refused(lab: Lab, tmp_path: Path) -> None:
    name = "sdxl" if lab.family == "sd15" else "sd15"
    stranger = lab.find(TINY[name](tmp_path / "stranger"))
    with pytest.raises(InputError, match=r"The model stranger has family SD.*, but the base model base has SD"):
        load_unet(stranger, lab.base)


def test_a_model_that_predicts_something_else_is_refused(lab: Lab, tmp_path: Path) -> None:
    stranger = lab.find(TINY[lab.family](tmp_path / "stranger", prediction_type="v_prediction"))
    with pytest.raises(InputError, match="has prediction_type v_prediction, but the base model base has epsilon"):
        load_unet(stranger, lab.base)


def test_weights_that_are_not_there_are_named(lab: Lab, tmp_path: Path) -> None:
    place = TINY[lab.family](tmp_path / "hollow", seed=6)
    (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="Cannot load the UNet of hollow"):
        load_unet(lab.find(place), lab.base)
