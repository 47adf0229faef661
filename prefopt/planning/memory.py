"""GPU and host memory of training at every ZeRO stage, and whether it fits."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prefopt.config import RunConfig
from prefopt.config.base import VALUE_BYTES
from prefopt.distributed.memory import STATES_SHARE, lowest_stage, states_memory
from prefopt.errors import ConfigError, InputError
from prefopt.models.size import UNetSize, unet_size
from prefopt.models.sources import training_weights
from prefopt.planning.activations import count_activations
from prefopt.planning.flops import ForwardCosts
from prefopt.planning.gpus import GIB, Device

CONTEXT = 1.5 * GIB
"""The device's own part: CUDA context, workspaces of its libraries, gaps between allocations."""


@dataclass(frozen=True)
class StageMemory:
    """Bytes at one ZeRO stage: of each worker's device, and of each node's host."""

    zero: int
    states: int
    """Weights, gradients, optimizer, reference and averages."""
    host: int
    needed: float
    available: float
    refused: str
    """Why this config cannot take the stage; empty if it can."""
    largest_micro_batch: int
    """The largest micro-batch for which there is room; 0 if the states alone are too large."""

    @property
    def fits(self) -> bool:
        """Whether all of it has room."""
        return self.needed <= self.available


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of training."""

    stages: Sequence[StageMemory]
    text_encoders: float
    activations: float
    """For the micro-batch."""
    context: float
    chosen: int | None
    """The stage that training takes; None if `auto` finds none."""
    verdict: str
    """Whether it fits, in words."""


def plan_memory(config: RunConfig, costs: ForwardCosts, device: Device) -> MemoryPlan:
    """The memory of training on a device, for every ZeRO stage with the configured offload."""
    train = config.train
    width = VALUE_BYTES[train.precision]
    latent = [side // costs.factor for side in max(config.score.sizes, key=math.prod)]
    image = count_activations(config.model, train, latent[0], latent[1], costs.tokens).total * width / 4
    texts, size = float(costs.text_parameters * width), unet_size(costs.empty_unet, train.lora)
    apart = _reference_apart(config)
    with _without_warnings():
        stages = [_stage(config, size, zero, texts, 2 * image, device, apart) for zero in range(4)]
        chosen, trouble = _chosen(config, size, device, apart)
    return MemoryPlan(
        stages,
        text_encoders=texts,
        activations=2 * train.micro_batch * image,
        context=CONTEXT,
        chosen=chosen,
        verdict=trouble or _verdict(config, stages[chosen or 0], device),
    )


def _reference_apart(config: RunConfig) -> bool:
    """Whether the reference is a UNet beside the policy's: weights that are not here are taken to be."""
    if config.train.init_from is None and config.train.reference_from is None:
        return False
    try:
        return training_weights(config).reference_apart
    except InputError:
        return True


@contextmanager
def _without_warnings() -> Iterator[None]:
    """When DeepSpeed is imported it says, on standard output, which accelerator it has not found."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _stage(
    config: RunConfig, size: UNetSize, zero: int, texts: float, pair: float, device: Device, apart: bool
) -> StageMemory:
    train, per_node = config.train, config.cluster.gpus_per_node
    states = states_memory(size, train, zero, workers=train.workers, per_node=per_node, apart=apart)
    rest = states.device + texts + CONTEXT
    room = max(0, int((device.memory - rest) // pair))
    return StageMemory(
        zero=zero,
        states=states.device,
        host=states.host,
        needed=rest + pair * train.micro_batch,
        available=device.memory,
        refused=_refused(config, zero),
        largest_micro_batch=room,
    )


def _refused(config: RunConfig, zero: int) -> str:
    train = config.train
    if train.offload == "optimizer" and zero == 0:
        return "offload optimizer needs ZeRO 1 to 3"
    if train.offload == "all" and zero != 3:
        return "offload all needs ZeRO 3"
    if train.optimizer.name == "adafactor" and zero:
        return "adafactor needs ZeRO 0"
    return ""


def _chosen(config: RunConfig, size: UNetSize, device: Device, apart: bool) -> tuple[int | None, str]:
    train = config.train
    if train.zero != "auto":
        return train.zero, ""
    try:
        per_node = config.cluster.gpus_per_node
        return lowest_stage(size, train, per_node=per_node, memory=device.memory, apart=apart), ""
    except ConfigError as error:
        return None, str(error)


def _verdict(config: RunConfig, stage: StageMemory, device: Device) -> str:
    how = f"ZeRO {stage.zero}"
    if config.train.zero == "auto":
        how += f" (auto: the lowest whose states take at most {STATES_SHARE:.0%} of a worker's memory)"
    of = f"needs {_gib(stage.needed)} of the {_gib(stage.available)} that each worker has ({device.name})"
    if stage.fits:
        return f"Training fits: {how} {of}."
    return f"Training does not fit: {how} {of}. {_cure(config, stage)}"


def _cure(config: RunConfig, stage: StageMemory) -> str:
    train = config.train
    if stage.largest_micro_batch:
        return f"A train.micro_batch of {stage.largest_micro_batch} would fit."
    ways = ["a higher train.zero with more workers"] if stage.zero < 3 else []
    ways += ["train.offload all with train.zero 3"] if train.offload != "all" else []
    ways += ["train.method lora"] if train.method == "full" else []
    ways += ["train.gradient_checkpointing"] if not train.gradient_checkpointing else []
    return f"Try {', '.join(ways) or 'a GPU with more memory'}."


def _gib(nbytes: float) -> str:
    return f"{nbytes / GIB:.1f} GiB"
