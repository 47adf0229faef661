from typing import Any

import pytest

from prefopt.config.train import TrainConfig
from prefopt.distributed.deepspeed_config import deepspeed_config, frozen_model_config


@pytest.mark.parametrize(("workers", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_batch_arithmetic(workers: int, accumulation: int) -> None:
    train = TrainConfig(global_batch=32, micro_batch=8)
    config = deepspeed_config(train, workers)
    assert config["gradient_accumulation_steps"] == accumulation
    assert config["train_batch_size"] == 32 == accumulation * workers * config["train_micro_batch_size_per_gpu"]


@pytest.mark.parametrize(
    ("options", "clip"),
    [
        ({"zero": 1}, 0.5),
        ({"precision": "bf16"}, 0.5),
        ({}, 0.0),
        ({"precision": "bf16", "optimizer": {"name": "adafactor"}}, 0.0),
    ],
)
def test_the_engine_clips_where_it_holds_the_optimizer(options: dict[str, Any], clip: float) -> None:
    train = TrainConfig.model_validate({"optimizer": {"clip": 0.5}, **options})
    assert deepspeed_config(train, 1)["gradient_clipping"] == clip


def test_offload() -> None:
    def zero(**options: Any) -> dict[str, Any]:
        found: dict[str, Any] = deepspeed_config(TrainConfig(**options), 1)["zero_optimization"]
        return {name: value for name, value in found.items() if name.startswith("offload")}

    cpu = {"device": "cpu"}
    assert zero(zero=3) == {}
    assert zero(zero=2, offload="optimizer") == {"offload_optimizer": cpu}
    assert zero(zero=3, offload="all") == {"offload_optimizer": cpu, "offload_param": cpu}
    assert frozen_model_config(TrainConfig(zero=3, offload="all"))["zero_optimization"]["offload_param"] == cpu


def test_auto_must_be_settled_first() -> None:
    with pytest.raises(ValueError, match="must be settled"):
        deepspeed_config(TrainConfig(zero="auto"), 1)


def test_workers_that_do_not_divide_the_micro_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="4 micro-batches do not divide among 3 workers"):
        deepspeed_config(TrainConfig(global_batch=32, micro_batch=8), 3)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_every_stage_keeps_the_optimizer_of_torch(zero: int) -> None:
    config = deepspeed_config(TrainConfig(zero=zero), 1)
    assert config["zero_optimization"]["stage"] == zero
    assert config["zero_force_ds_cpu_optimizer"] is False
    assert "optimizer" not in config
    assert "scheduler" not in config


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", set()), ("bf16", {"bf16"}), ("fp16", {"fp16"})])
def test_precision(precision: str, enabled: set[str]) -> None:
    for config in (
        deepspeed_config(TrainConfig(precision=precision), 1),
        frozen_model_config(TrainConfig(precision=precision)),
    ):
        assert {name for name in ("bf16", "fp16") if config[name]["enabled"]} == enabled


def test_zero_options_are_added() -> None:
    options = {"stage3_param_persistence_threshold": 0}
    train = TrainConfig(zero=3)
    for config in (deepspeed_config(train, 1, options), frozen_model_config(train, options)):
        assert config["zero_optimization"].items() >= {"stage": 3, **options}.items()
