"""What training keeps in memory besides activations, in bytes per weight, and the ZeRO stage that fits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from prefopt.config.base import VALUE_BYTES
from prefopt.config.cluster import ClusterConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.train import TrainConfig
from prefopt.errors import ConfigError
from prefopt.models.size import UNetSize
from prefopt.objectives import OBJECTIVES

STATES_SHARE = 0.6
"""Of a worker's memory: what `auto` gives to weights, gradients and optimizer. The rest is for activations."""
_GIB = 2**30
_FULL = 4
"""Bytes of a float32: the optimizer's master copy, each of its moments, and the gradient that it is given."""
_HOST_BUFFERS = 1.5
"""Of host memory, what DeepSpeed's estimators add for buffers."""


@dataclass(frozen=True)
class StatesMemory:
    """Bytes of model states: on each worker's device, and in the host memory of each node."""

    device: int
    host: int


def states_memory(
    size: UNetSize, train: TrainConfig, zero: int, *, workers: int, per_node: int, apart: bool = False
) -> StatesMemory:
    """Model states at a ZeRO stage: trained weights, gradients and the optimizer's state, then the frozen weights and
    the policy's averages.

    `apart` says that the reference of a LoRA run is a UNet of its own. The averages' float32 shadows are whole on
    every worker at stage 0 and sharded above; the copies that predict and the frozen weights are sharded at stage 3
    only, and wait on the host under `offload: all`.
    """
    trained = trained_weights(size, train)
    nodes = max(1, workers // per_node)
    on_node = min(workers, per_node)
    copies, shadows = _beside_policy(size, train, trained, apart)
    device = _policy_on_device(size, train, zero, workers) + shadows / (workers if zero else 1)
    host = _HOST_BUFFERS * _FULL * on_node * (min(size.largest_layer, trained) if zero == 3 else trained)
    if _offloads(train, zero):
        host = _HOST_BUFFERS * max(_FULL * workers * trained * (zero < 3), _offloaded(size, train) / nodes)
    if zero == 3 and train.offload == "all":
        host += _HOST_BUFFERS * (VALUE_BYTES[train.precision] * trained + copies) / nodes
    else:
        device += copies / (workers if zero == 3 else 1)
    return StatesMemory(int(device), int(host))


def trained_weights(size: UNetSize, train: TrainConfig) -> int:
    """How many weights are trained."""
    return size.lora if train.method == "lora" else size.total


def optimizer_values(size: UNetSize, train: TrainConfig) -> int:
    """How many float32 values the optimizer keeps: both moments of AdamW, the factored second moment of Adafactor."""
    if train.optimizer.name == "adafactor":
        return size.factored if train.method == "full" else 0
    return 2 * trained_weights(size, train)


def has_master(train: TrainConfig, zero: int) -> bool:
    """Whether the optimizer has a float32 copy of the weights: not where torch's works on the weights themselves."""
    return zero > 0 or train.precision != "fp32"


def _policy_on_device(size: UNetSize, train: TrainConfig, zero: int, workers: int) -> float:
    """Trained weights, gradients and the optimizer's state.

    Gradients are converted to float32 before the optimizer takes them. At ZeRO 1 every worker forms all of them; ZeRO
    3 gathers the weights and gradients of one layer.
    """
    width, trained = VALUE_BYTES[train.precision], trained_weights(size, train)
    weights = float(width * trained)
    gradients = weights + _FULL * trained * (train.precision != "fp32")
    state = _FULL * (trained * has_master(train, zero) + optimizer_values(size, train))
    if _offloads(train, zero):
        gradients, state = (weights if zero == 1 else 0.0), 0
    if zero == 0:
        return weights + gradients + state
    if zero == 1:
        return weights + gradients + state / workers
    if zero == 2:
        return weights + (gradients + state) / workers
    layer = 2 * width * min(size.largest_layer, trained)
    return layer + ((weights if train.offload != "all" else 0.0) + gradients + state) / workers


def _offloads(train: TrainConfig, zero: int) -> bool:
    return train.offload != "none" and zero > 0


def _offloaded(size: UNetSize, train: TrainConfig) -> int:
    """Bytes of master copy, moments and gradients on the host."""
    return _FULL * (2 * trained_weights(size, train) + optimizer_values(size, train))


def _beside_policy(size: UNetSize, train: TrainConfig, trained: int, apart: bool) -> tuple[float, float]:
    """Bytes of frozen weights with the averages that predict, and of the averages' shadows."""
    lora, averages = train.method == "lora", 2 * has_averages(train)
    frozen = size.total * (lora + has_live_reference(train) * (apart or not lora))
    return float(VALUE_BYTES[train.precision] * (frozen + averages * trained)), float(_FULL * averages * trained)


def has_averages(train: TrainConfig) -> bool:
    """Whether the policy's averages judge each pair."""
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


def lowest_stage(size: UNetSize, train: TrainConfig, *, per_node: int, memory: float, apart: bool = False) -> int:
    """The lowest ZeRO stage whose model states take at most STATES_SHARE of `memory` bytes per worker.

    `apart` as for `states_memory`.

    Raises ConfigError if none does, or if what was asked for goes with none.
    """
    candidates = dict(_candidates(size, train, per_node, apart))
    for stage, states in candidates.items():
        if states.device <= STATES_SHARE * memory:
            return stage
    needed = ", ".join(f"{states.device / _GIB:.1f} GiB at ZeRO {stage}" for stage, states in candidates.items())
    raise ConfigError(
        f"train.zero auto: no stage fits into {STATES_SHARE:.0%} of {memory / _GIB:.1f} GiB on {train.workers} workers"
        f" ({needed}). Try {' or '.join(_ways(train))}."
    )


def _ways(train: TrainConfig) -> list[str]:
    ways = ["more train.workers"]
    ways += ["train.offload all"] if train.offload != "all" else []
    return [*ways, "train.method lora"] if train.method == "full" else ways


def _candidates(size: UNetSize, train: TrainConfig, per_node: int, apart: bool) -> Iterator[tuple[int, StatesMemory]]:
    first = {"none": 0, "optimizer": 1, "all": 3}[train.offload]
    for stage in range(first, 4):
        yield stage, states_memory(size, train, stage, workers=train.workers, per_node=per_node, apart=apart)


def has_live_reference(train: TrainConfig) -> bool:
    """Whether training asks a reference model."""
    return train.reference == "live" and OBJECTIVES[train.objective.name].has_reference
