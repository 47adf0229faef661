import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.errors import ConfigError
from prefopt.models.adapters import (
    FAST,
    POLICY,
    SLOW,
    acting,
    adapter_parameters,
    add_adapters,
    save_adapter,
    set_active,
)
from prefopt.models.identity import LORA_WEIGHTS
from prefopt.models.loading import load_pipeline
from tests.kit.models import LATENT_SHAPE, TOKENS, WIDTH, tiny_pipeline, tiny_unet

CONFIG = LoraConfig(rank=4, alpha=8.0)


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *LATENT_SHAPE, generator=generator)
    return x, torch.tensor([10, 700]), torch.randn(2, TOKENS, WIDTH, generator=generator)


def _output(unet: torch.nn.Module) -> Tensor:
    return unet(*_inputs(), return_dict=False)[0]


def _adapted() -> torch.nn.Module:
    unet = tiny_unet()
    add_adapters(unet, CONFIG, (POLICY, SLOW, FAST), seed=3)
    return unet


def _fill(unet: torch.nn.Module, name: str, value: float) -> None:
    for key, parameter in adapter_parameters(unet, name).items():
        if ".lora_B." in key:
            parameter.data.fill_(value)


def test_fresh_adapters_leave_the_base_as_it_is() -> None:
    base = _output(tiny_unet())
    unet = _adapted()
    assert torch.equal(_output(unet), base)


def test_only_the_policy_is_trained_whatever_acts() -> None:
    unet = _adapted()
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in unet.named_parameters() if f".{POLICY}." in name}
    for name in (SLOW, None, FAST, POLICY):
        set_active(unet, name)
        assert {name for name, p in unet.named_parameters() if p.requires_grad} == trained


def test_policy_averages_and_reference_differ_once_they_were_updated() -> None:
    base = _output(tiny_unet())
    unet = _adapted()
    for name, value in ((POLICY, 0.1), (SLOW, 0.02), (FAST, 0.05)):
        _fill(unet, name, value)
    outputs = {POLICY: _output(unet).detach()}
    for name in (SLOW, FAST, None):
        with acting(unet, name):
            outputs[name] = _output(unet)
            assert not outputs[name].requires_grad
    assert torch.equal(outputs[None], base)
    values = list(outputs.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])
    assert torch.equal(_output(unet), outputs[POLICY])


def test_gradient_reaches_the_policy_alone() -> None:
    unet = _adapted()
    _fill(unet, POLICY, 0.1)
    with acting(unet, SLOW):
        _output(unet)
    _output(unet).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter_parameters(unet, POLICY).values())
    assert all(p.grad is None for name in (SLOW, FAST) for p in adapter_parameters(unet, name).values())


def test_start_depends_on_the_seed_alone() -> None:
    first, second, other = tiny_unet(), tiny_unet(), tiny_unet()
    for unet, seed in ((first, 1), (second, 1), (other, 2)):
        add_adapters(unet, CONFIG, (POLICY,), seed)
    a, b, c = (adapter_parameters(unet, POLICY) for unet in (first, second, other))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    down = torch.cat([value.detach().flatten() for key, value in a.items() if ".lora_A." in key])
    assert float(down.std()) == pytest.approx(1 / CONFIG.rank, rel=0.05)


def test_targets_that_fit_nothing_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"train\.lora\.targets"):
        add_adapters(tiny_unet(), LoraConfig(targets=("nowhere",)), (POLICY,), 0)


def test_saved_adapter_is_loaded_by_diffusers(tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_pipeline(tmp_path / "model")))
    tuned = load_pipeline(model)
    add_adapters(tuned.unet, CONFIG, (POLICY, SLOW), seed=0)
    _fill(tuned.unet, POLICY, 0.1)
    save_adapter(tmp_path / "lora", adapter_parameters(tuned.unet, POLICY), CONFIG)
    fresh = load_pipeline(model)
    before = _output(fresh.unet)
    fresh.load_lora_weights(str(tmp_path / "lora"))
    assert torch.equal(_output(fresh.unet), _output(tuned.unet))
    assert not torch.equal(_output(fresh.unet), before)


def test_same_adapter_gives_same_bytes(tmp_path: Path) -> None:
    values = {key: p.detach() for key, p in adapter_parameters(_adapted(), POLICY).items()}
    digests = set()
    for index, order in enumerate((values, dict(reversed(values.items())))):
        save_adapter(tmp_path / str(index), order, CONFIG)
        digests.add(hashlib.sha256((tmp_path / str(index) / LORA_WEIGHTS).read_bytes()).hexdigest())
    assert len(digests) == 1
