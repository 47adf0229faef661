from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig, TrainConfig
from prefopt.errors import InputError
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.families import predict
from prefopt.models.size import unet_size
from prefopt.planning.flops import REWARD_FLOPS, Flops, ForwardCosts, count_flops, unet_inputs
from prefopt.planning.training_work import policy_flops
from tests.kit.models import SIZE, tiny_sdxl_pipeline
from tests.kit.published import SD15_UNET, sd15_configs, sdxl_configs


def test_a_convolution_and_a_linear_layer_by_hand() -> None:
    conv, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5, bias=False)
    images = torch.zeros(2, 3, 16, 16)
    counted = count_flops(lambda: linear(conv(images).flatten(2).transpose(1, 2)))
    convolution = 2 * 2 * (16 * 16) * 8 * (3 * 3 * 3)
    assert counted == Flops(weights=convolution + 2 * 2 * (16 * 16) * 8 * 5, attention=0)


def test_attention_by_hand() -> None:
    heads, tokens, width = 2, 7, 4
    queries = torch.zeros(1, heads, tokens, width, device="meta")
    counted = count_flops(lambda: nn.functional.scaled_dot_product_attention(queries, queries, queries))
    assert counted == Flops(weights=0, attention=2 * (2 * heads * tokens * tokens * width))


def test_stable_diffusion_15_has_its_known_magnitude(tmp_path: Path) -> None:
    costs = ForwardCosts(ModelConfig(path=str(sd15_configs(tmp_path))))
    assert (costs.family, costs.factor, costs.channels, costs.tokens) == ("SD1.5", 8, 4, 77)
    assert unet_size(costs.empty_unet, LoraConfig()).total == 859_520_964
    assert costs.unet(Size.square(512)).total == pytest.approx(0.8e12, rel=0.15)
    assert costs.text_parameters == 123_060_480
    assert costs.encode(Size.square(512)) == pytest.approx(1.1e12, rel=0.15)
    assert costs.decode(Size.square(512)) == pytest.approx(2.5e12, rel=0.15)
    assert costs.latent_values(Size.square(512)) == 4 * 64 * 64


def test_sdxl_has_its_known_magnitude(tmp_path: Path) -> None:
    costs = ForwardCosts(ModelConfig(path=str(sdxl_configs(tmp_path))))
    assert costs.family == "SDXL"
    assert unet_size(costs.empty_unet, LoraConfig()).total == pytest.approx(2.6e9, rel=0.15)
    assert costs.unet(Size.square(1024)).total == pytest.approx(6e12, rel=0.15)
    assert costs.text_parameters == pytest.approx(0.82e9, rel=0.02)


def test_the_embedded_world_is_counted_too() -> None:
    costs = ForwardCosts(ModelConfig(path="world"))
    assert costs.unet(Size.square(32)).total > 16 * costs.prompt > 0
    assert costs.unet(Size.square(64)).total > 3 * costs.unet(Size.square(32)).total


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    place = sd15_configs(tmp_path)
    (place / "text_encoder" / "config.json").unlink()
    with pytest.raises(InputError, match="Cannot load the text encoders"):
        ForwardCosts(ModelConfig(path=str(place)))


def test_a_reward_model_costs_what_its_class_does() -> None:
    vision = CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    text = CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16)
    with torch.device("meta"):
        tower, words = CLIPVisionModel(vision), CLIPTextModel(text)
        pixels, ids = torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.int64)
    total = count_flops(lambda: tower(pixels)).total + count_flops(lambda: words(ids)).total
    assert pytest.approx(total, rel=0.02) == REWARD_FLOPS


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_backward_pass_is_what_torch_counts(method: str) -> None:
    train = TrainConfig.model_validate({"method": method})
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(SD15_UNET)
        given = unet_inputs(unet, 64, 64, 77)
    forward = count_flops(lambda: predict(unet, *given))
    if method == "lora":
        add_adapters(unet, train.lora, (POLICY,), 0)
    with FlopCounterMode(display=False) as counter:
        predict(unet, *given).sum().backward()
    assert policy_flops(forward, train) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_gradient_checkpointing_adds_a_forward(tmp_path: Path) -> None:
    forward = ForwardCosts(ModelConfig(path=str(tiny_sdxl_pipeline(tmp_path)))).unet(SIZE)
    plain, again = (policy_flops(forward, TrainConfig(method="full", gradient_checkpointing=c)) for c in (False, True))
    assert (plain, again) == (3 * forward.total, 4 * forward.total)
