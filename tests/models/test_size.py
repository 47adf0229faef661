from pathlib import Path

import pytest

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


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the model"):
        empty_unet(ModelConfig(path=str(tmp_path)))
