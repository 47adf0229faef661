"""The DeepSpeed configuration of a run, and DeepSpeed without compiled operators."""

from collections.abc import Mapping
from typing import Any

from prefopt.config.train import TrainConfig

_COMPILED_COLLECTIVES = "deepspeed_shm_comm"


def deepspeed_config(
    train: TrainConfig, world_size: int, zero_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What DeepSpeed is told: ZeRO stage, offload, precision, gradient clipping and the batch arithmetic.

    Optimizer and learning rate stay outside. `zero_options` are added to `zero_optimization`. Raises ValueError if
    the micro-batches do not divide among the workers, or if `zero: auto` has not been settled.
    """
    if train.micro_batches % world_size:
        raise ValueError(f"{train.micro_batches} micro-batches do not divide among {world_size} workers")
    return {
        "train_batch_size": train.global_batch,
        "train_micro_batch_size_per_gpu": train.micro_batch,
        "gradient_accumulation_steps": train.micro_batches // world_size,
        "gradient_clipping": train.optimizer.clip if clips(train) and not is_plain(train) else 0.0,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": train.zero_stage,
            **_zero_defaults(train.zero_stage),
            **_offload(train),
            **(zero_options or {}),
        },
        **_precision(train),
    }


def is_plain(train: TrainConfig) -> bool:
    """Whether torch's optimizer works on the weights themselves: the engine then neither clips nor skips a step."""
    return train.zero == 0 and train.precision == "fp32"


def clips(train: TrainConfig) -> bool:
    """Whether gradients are clipped by their norm: Adafactor clips its updates itself."""
    return train.optimizer.name != "adafactor"


def frozen_model_config(train: TrainConfig, zero_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """For a model that is only evaluated, its weights sharded over the workers as at ZeRO 3."""
    return {
        "train_micro_batch_size_per_gpu": train.micro_batch,
        "zero_optimization": {"stage": 3, **_offloaded_weights(train), **(zero_options or {})},
        **_precision(train),
    }


def _precision(train: TrainConfig) -> dict[str, Any]:
    return {"bf16": {"enabled": train.precision == "bf16"}, "fp16": {"enabled": train.precision == "fp16"}}


def _offload(train: TrainConfig) -> dict[str, Any]:
    optimizer = {"offload_optimizer": {"device": "cpu"}} if train.offload != "none" else {}
    return {**optimizer, **_offloaded_weights(train)}


def _offloaded_weights(train: TrainConfig) -> dict[str, Any]:
    return {"offload_param": {"device": "cpu"}} if train.offload == "all" else {}


def _zero_defaults(stage: int) -> dict[str, Any]:
    return {"overlap_comm": False, "contiguous_gradients": True, "reduce_scatter": True} if stage else {}


def without_compiled_collectives() -> None:
    """Keep DeepSpeed from compiling its shared-memory collectives for CPUs: call before `init_distributed`."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__[_COMPILED_COLLECTIVES] = False
