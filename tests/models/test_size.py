from pathlib import Path

import pytest
import torch
from transformers.optimization import Adafactor

from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.errors import InputError
from prefopt.models.adapters import POLICY, adapter_parameters, add_adapters
from prefopt.models.size import empty_unet, unet_size
from tests.kit.models import tiny_pipeline, tiny_unet


def test_sizes_are_those_of_the_loaded_model(tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, alpha=4.0)
    empty = empty_unet(ModelConfig(path=str(tiny_pipeline(tmp_path))))
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    size, unet = unet_size(empty, lora), tiny_unet()
    assert size.total == sum(parameter.numel() for parameter in unet.parameters())
    assert 0 < size.largest_layer < size.total
    add_adapters(unet, lora, (POLICY,), 0)
    assert size.lora == sum(parameter.numel() for parameter in adapter_parameters(unet, POLICY).values())


def test_adapters_on_convolutions_and_the_factored_moment_are_counted() -> None:
    lora, unet = LoraConfig(rank=4, targets=("to_q", "conv1", "proj_in")), tiny_unet()
    size = unet_size(unet, lora)
    fixed = {"lr": 1.0, "relative_step": False, "scale_parameter": False}
    assert size.factored == sum(_state_values(Adafactor([value], **fixed)) for value in unet.parameters())
    add_adapters(unet, lora, (POLICY,), 0)
    assert size.lora == sum(parameter.numel() for parameter in adapter_parameters(unet, POLICY).values())


def _state_values(optimizer: Adafactor) -> int:
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return sum(
        value.numel()
        for value in optimizer.state[parameter].values()
        if isinstance(value, torch.Tensor) and value.dim()
    )


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the model"):
        empty_unet(ModelConfig(path=str(tmp_path)))
