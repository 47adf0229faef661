"""What training keeps in memory besides activations, by DeepSpeed's own estimators, and the ZeRO stage that fits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from prefopt.config.cluster import ClusterConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.train import TrainConfig
from prefopt.errors import ConfigError
from prefopt.models.size import UNetSize
from prefopt.objectives import OBJECTIVES

STATES_SHARE = 0.6
"""Of a worker's memory: what `auto` gives to weights, gradients and optimizer. The rest is for activations."""
_GIB = 2**30
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class StatesMemory:
    """Bytes of model states: on each worker's device, and in the host memory of each node."""

    device: int
    host: int


def states_memory(size: UNetSize, train: TrainConfig, zero: int, *, workers: int, per_node: int) -> StatesMemory:
    """Model states at a ZeRO stage: trained weights, gradients and Adam's moments as DeepSpeed estimates them for
    mixed precision, then the frozen reference and the policy's averages.

    The averages' float32 shadows are whole on every worker at stage 0 and sharded above; the copies that predict
    and the frozen weights are sharded at stage 3 only.
    """
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    trained = size.lora if train.method == "lora" else size.total
    nodes = max(1, workers // per_node)
    on_node = min(workers, per_node)
    offload = train.offload != "none" and zero > 0
    if zero == 3:
        host, device, _ = estimate_zero3_model_states_mem_needs(
            trained,
            min(size.largest_layer, trained),
            num_gpus_per_node=on_node,
            num_nodes=nodes,
            cpu_offload=offload,
            cpu_offload_params=train.offload == "all",
        )
    else:
        shards = (on_node, nodes) if zero else (1, 1)
        host, device = estimate_zero2_model_states_mem_needs(trained, *shards, cpu_offload=offload)
        if zero == 1 and not offload:
            device += int(6 * trained * (1 - 1 / workers))
    return StatesMemory(device + _beside_policy(size, train, zero, trained, workers), host)


def _beside_policy(size: UNetSize, train: TrainConfig, zero: int, trained: int, workers: int) -> int:
    compute, averages = _BYTES[train.precision], 2 if _has_averages(train) else 0
    frozen = size.total if train.method == "lora" else size.total * has_live_reference(train)
    copies = compute * (frozen + averages * trained) / (workers if zero == 3 else 1)
    shadows = 4 * averages * trained / (workers if zero else 1)
    return int(copies + shadows)


def _has_averages(train: TrainConfig) -> bool:
    return isinstance(train.objective, AdaptiveParams) and train.objective.u.source != "offline"


def worker_memory(cluster: ClusterConfig, workers: int) -> float:
    """Bytes that one training worker has: of its GPU, or its part of this machine.

    Raises ConfigError if the workers have GPUs that neither the config nor this machine tells anything about.
    """
    if not cluster.worker_gpus:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / min(workers, cluster.gpus_per_node)
    if cluster.gpu_memory_gb is not None:
        return cluster.gpu_memory_gb * _GIB
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    raise ConfigError(
        "train.zero auto: the driver sees no GPU, so it cannot tell how much memory the workers' have. Set"
        " cluster.gpu_memory_gb, or a train.zero of 0 to 3."
    )


def lowest_stage(size: UNetSize, train: TrainConfig, *, per_node: int, memory: float) -> int:
    """The lowest ZeRO stage whose model states take at most STATES_SHARE of `memory` bytes per worker.

    Raises ConfigError if none does, or if what was asked for goes with none.
    """
    candidates = dict(_candidates(size, train, per_node))
    for stage, states in candidates.items():
        if states.device <= STATES_SHARE * memory:
            return stage
    needed = ", ".join(f"{states.device / _GIB:.1f} GiB at ZeRO {stage}" for stage, states in candidates.items())
    raise ConfigError(
        f"train.zero auto: no stage fits into {STATES_SHARE:.0%} of {memory / _GIB:.1f} GiB on {train.workers} workers"
        f" ({needed}). Raise train.workers, set train.offload, or take train.method lora."
    )


def _candidates(size: UNetSize, train: TrainConfig, per_node: int) -> Iterator[tuple[int, StatesMemory]]:
    first = {"none": 0, "optimizer": 1, "all": 3}[train.offload]
    for stage in range(first, 4):
        yield stage, states_memory(size, train, stage, workers=train.workers, per_node=per_node)


def has_live_reference(train: TrainConfig) -> bool:
    """Whether training asks a reference model."""
    return train.reference == "live" and OBJECTIVES[train.objective.name].has_reference
