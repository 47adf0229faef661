from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.config.train import TrainConfig
from prefopt.errors import ConfigError
from prefopt.planning.flops import ForwardCosts
from prefopt.planning.gpus import CPU_THREAD, DEFAULT, GPUS, HALF_SHARE, choose_device
from prefopt.planning.training_work import policy_flops
from tests.kit.data import small_config
from tests.kit.published import sd15_configs, sdxl_configs


def config(**cluster: Any) -> RunConfig:
    return small_config(Path("place"), [{"kind": "world"}], cluster=cluster)


def published_share(costs: ForwardCosts, resolution: int, pairs_per_second: float, checkpointing: bool) -> float:
    """The share of an A100's peak that a published speed of Diffusion-DPO is, with encoding while training."""
    train = TrainConfig(method="full", gradient_checkpointing=checkpointing)
    size = Size.square(resolution)
    forward = costs.unet(size)
    image = policy_flops(forward, train) + forward.total + costs.encode(size)
    return 2 * image * pairs_per_second / (GPUS["A100-80GB"].fp16 * 1e12)


def test_published_speeds_anchor_the_low_end(tmp_path: Path) -> None:
    sdxl = ForwardCosts(ModelConfig(path=str(sdxl_configs(tmp_path / "xl"))))
    sd15 = ForwardCosts(ModelConfig(path=str(sd15_configs(tmp_path / "15"))))
    assert published_share(sdxl, 1024, 0.24, True) == pytest.approx(HALF_SHARE.low, abs=0.005)
    assert published_share(sd15, 512, 3.0, False) == pytest.approx(0.083, abs=0.005)


def test_training_from_stored_latents_anchors_the_high_end(tmp_path: Path) -> None:
    forward = ForwardCosts(ModelConfig(path=str(sd15_configs(tmp_path)))).unet(Size.square(512)).total
    assert 36 * 3 * forward / (GPUS["A100-80GB"].fp16 * 1e12) == pytest.approx(0.28, abs=0.01)
    assert HALF_SHARE.low < HALF_SHARE.assumed < 0.28 < HALF_SHARE.high


def test_a_gpu_is_named_in_any_case() -> None:
    device, guess = choose_device(config(), "h200")
    assert (device.name, guess) == ("H200", "")
    assert device.is_gpu
    assert device.speed["bf16"].assumed == pytest.approx(0.2 * 989.4e12)


def test_an_unknown_gpu_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"--gpu B3: not in the table\. Known: T4, .*H200, cpu"):
        choose_device(config(), "B3")


@pytest.mark.parametrize(("gib", "name"), [(80, "A100-80GB"), (40, "A100-40GB"), (16, "V100-16GB"), (141, "H200")])
def test_without_a_name_the_nearest_memory_is_taken(gib: float, name: str) -> None:
    device, guess = choose_device(config(worker_gpus=1, gpu_memory_gb=gib), None)
    assert device.name == name
    assert guess == f"No --gpu was given: {name} is assumed, since cluster.gpu_memory_gb is {gib}."


def test_without_any_hint_a_common_gpu_is_taken() -> None:
    device, guess = choose_device(config(worker_gpus=1), None)
    assert (device.name, guess) == (DEFAULT, f"No --gpu was given: {DEFAULT} is assumed.")


def test_a_config_without_gpus_runs_on_cpus() -> None:
    for device, guess in (choose_device(config(), None), choose_device(config(worker_gpus=1), "cpu")):
        assert (device.name, device.is_gpu, guess) == ("CPU", False, "")
        assert device.speed["fp32"] == CPU_THREAD
        assert device.memory > 0


def test_old_gpus_have_no_fast_bf16() -> None:
    device, _ = choose_device(config(), "T4")
    assert device.speed["bf16"] == device.speed["fp32"]
    assert device.speed["fp16"].assumed > 3 * device.speed["fp32"].assumed
