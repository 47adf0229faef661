import pytest

from prefopt.config.train import OptimizerConfig, TrainConfig
from prefopt.distributed.deepspeed_config import deepspeed_config, frozen_model_config


@pytest.mark.parametrize(("workers", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_batch_arithmetic(workers: int, accumulation: int) -> None:
    train = TrainConfig(global_batch=32, micro_batch=8, optimizer=OptimizerConfig(clip=0.5))
    config = deepspeed_config(train, workers)
    assert config["gradient_accumulation_steps"] == accumulation
    assert config["train_batch_size"] == 32 == accumulation * workers * config["train_micro_batch_size_per_gpu"]
    assert config["gradient_clipping"] == 0.5


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
