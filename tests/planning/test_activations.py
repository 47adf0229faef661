from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from prefopt.config.root import ModelConfig
from prefopt.config.train import TrainConfig
from prefopt.models.adapters import POLICY, add_adapters
from prefopt.models.families import predict
from prefopt.planning.activations import count_activations, measure_activations
from prefopt.planning.flops import unet_inputs
from tests.kit.models import LATENT_SHAPE, TINY, TOKENS, tiny_sdxl_unet, tiny_unet

SIDE = LATENT_SHAPE[1]
UNETS: dict[str, Any] = {"sd15": tiny_unet, "sdxl": tiny_sdxl_unet}


def really_saved(unet: Any, batch: int) -> int:
    """Bytes that autograd keeps in a forward on the CPU, weights left out."""
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    latents, t, told = unet_inputs(unet, SIDE, SIDE, TOKENS)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        predict(unet, latents.repeat(batch, 1, 1, 1), t.repeat(batch), told.repeat(batch))
    weights = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    return sum(t.untyped_storage().nbytes() for place, t in saved.items() if place not in weights)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_estimate_is_what_autograd_really_keeps(tmp_path: Path, family: str, method: str) -> None:
    train = TrainConfig.model_validate({"method": method})
    estimate = count_activations(ModelConfig(path=str(TINY[family](tmp_path))), train, SIDE, SIDE, TOKENS)
    unet = UNETS[family]()
    if method == "lora":
        add_adapters(unet, train.lora, (POLICY,), 0)
    batch = 4
    assert 0.5 <= estimate.total * batch / really_saved(unet, batch) <= 2.0
    assert estimate.total == pytest.approx(really_saved(unet, 1), rel=0.01)
    assert estimate.recomputed == 0


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_gradient_checkpointing_keeps_less(tmp_path: Path, family: str) -> None:
    model = ModelConfig(path=str(TINY[family](tmp_path)))
    plain, again = (
        count_activations(model, TrainConfig(method="full", gradient_checkpointing=wanted), SIDE, SIDE, TOKENS)
        for wanted in (False, True)
    )
    assert 0 < again.recomputed < again.total < 0.6 * plain.total


def test_checkpointed_blocks_are_counted_on_real_tensors_alike(tmp_path: Path) -> None:
    train = TrainConfig(method="full", gradient_checkpointing=True)
    estimate = count_activations(ModelConfig(path=str(TINY["sd15"](tmp_path))), train, SIDE, SIDE, TOKENS)
    unet = tiny_unet()
    real = measure_activations(unet, dict(unet.named_parameters()), unet_inputs(unet, SIDE, SIDE, TOKENS), True)
    assert real.total == pytest.approx(estimate.total, rel=0.01)
