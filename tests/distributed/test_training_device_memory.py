"""What reaches the device while the models of a run are built."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from prefopt.config.root import ModelConfig
from prefopt.config.train import TrainConfig
from prefopt.distributed.training import denoisers
from prefopt.distributed.training.denoisers import AVERAGES, build_denoisers
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.sources import base_weights, find_weights, training_weights
from prefopt.models.unets import load_unet, read_adapter, start_adapter
from tests.kit.models import tiny_pipeline, tiny_unet
from tests.kit.training import training_config
from tests.kit.weights import LORA, lora_directory


@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_are_cast_before_they_reach_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The meta device stands for a GPU."""
    base, other = tiny_pipeline(tmp_path / "base"), tiny_pipeline(tmp_path / "other", seed=5)
    config = training_config(
        base, tmp_path / "store", method=method, precision="bf16", reference_from=str(other), objective={"name": "dpo"}
    )
    arrived: list[nn.Module] = []

    def engine(module: nn.Module, train: TrainConfig, world_size: int, options: Mapping[str, Any]) -> Any:
        arrived.append(module)
        parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        return SimpleNamespace(module=module, parameters=parameters)

    def shard(module: nn.Module, train: TrainConfig, options: Mapping[str, Any]) -> nn.Module:
        arrived.append(module)
        return module

    moved: set[torch.dtype] = set()
    whole = nn.Module.to

    def to(module: nn.Module, *args: Any, **options: Any) -> nn.Module:
        if isinstance(module, UNet2DConditionModel) and torch.device("meta") in args:
            moved.update(value.dtype for name, value in module.named_parameters() if ".lora_" not in name)
        return whole(module, *args, **options)

    monkeypatch.setattr(denoisers, "PolicyEngine", engine)
    monkeypatch.setattr(denoisers, "shard_frozen", shard)
    monkeypatch.setattr(nn.Module, "to", to)
    who = AVERAGES if method == "full" else ()
    build_denoisers(config, training_weights(config), who, torch.device("meta"), 1, {})
    assert moved == {torch.bfloat16}
    assert len(arrived) == (4 if method == "full" else 2)


def test_casting_first_changes_no_weight(tmp_path: Path) -> None:
    """DeepSpeed casts adapters and what they lie on in the end: the order makes no difference."""
    base = base_weights(ModelConfig(path=str(tiny_pipeline(tmp_path / "base"))))
    start = find_weights(str(lora_directory(tmp_path / "lora", tiny_unet())), "train.init_from", [base])
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        unet = load_unet(base, base, dtype)
        adapter = read_adapter(unet, start)
        add_adapters(unet, LORA, (POLICY,), 0)
        start_adapter(unet, POLICY, adapter, LORA, "train.init_from")
        found.append(unet.bfloat16().state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
