"""GPUs by name: memory, dense peak speed, and the share of the peak that a plan assumes.

Peaks are the makers' data sheets' (NVIDIA: T4, V100 SXM2, A10, L4, L40S, A100 SXM, H100 SXM, H200 SXM; for GeForce
the architecture white papers GA102 and Ada), without structured sparsity and with float32 accumulation. Memory is what
drivers report, a little below the number in the name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prefopt.config import RunConfig
from prefopt.distributed.memory import worker_memory
from prefopt.errors import ConfigError

GIB = 2**30
CPU = "CPU"
DEFAULT = "A100-80GB"
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Gpu:
    """A line of a data sheet; TFLOP/s, dense."""

    memory_gib: float
    fp16: float
    """Of the tensor cores."""
    fp32: float
    """Of the ordinary cores: torch multiplies float32 matrices there unless told otherwise."""
    bf16: bool = True
    """Whether the tensor cores know it; if not, it is no faster than float32."""


GPUS: dict[str, Gpu] = {
    "T4": Gpu(14.6, 65.0, 8.1, bf16=False),
    "V100-16GB": Gpu(15.8, 125.0, 15.7, bf16=False),
    "V100-32GB": Gpu(31.7, 125.0, 15.7, bf16=False),
    "RTX-3090": Gpu(23.7, 71.0, 35.6),
    "RTX-4090": Gpu(23.6, 165.2, 82.6),
    "A10": Gpu(22.1, 125.0, 31.2),
    "L4": Gpu(22.1, 121.0, 30.3),
    "L40S": Gpu(44.5, 362.0, 91.6),
    "A100-40GB": Gpu(39.4, 312.0, 19.5),
    "A100-80GB": Gpu(79.2, 312.0, 19.5),
    "H100": Gpu(79.2, 989.4, 66.9),
    "H200": Gpu(139.8, 989.4, 66.9),
}
"""By the name that `--gpu` takes, in any case."""


@dataclass(frozen=True)
class Spread:
    """A guess, and the range that it comes from."""

    low: float
    assumed: float
    high: float

    def times(self, factor: float) -> "Spread":
        """Each of the three, multiplied."""
        return Spread(self.low * factor, self.assumed * factor, self.high * factor)


HALF_SHARE = Spread(0.06, 0.2, 0.3)
"""Of the tensor cores' peak. Low: published Diffusion-DPO runs, if their GPUs were A100: 0.24 pairs a second and GPU
for SDXL are 0.06, 3.0 for SD1.5 are 0.08, with images decoded and encoded while training. High: Stable Diffusion 2
trained from stored latents, 36 images a second and A100, is 0.28. Assumed: stored latents, but pairs."""
FP32_SHARE = Spread(0.25, 0.5, 0.75)
"""Of the ordinary cores' peak, without an anchor: large products come near it, small ones do not."""
CPU_THREAD = Spread(6e9, 20e9, 60e9)
"""FLOP/s of one CPU thread in float32. Assumed: the demo's small UNet (16e9 training, 30e9 drawing images); large
products are faster, and a machine that does other work is slower."""


@dataclass(frozen=True)
class Device:
    """What the models run on."""

    name: str
    memory: float
    """Bytes that one worker has."""
    peak: Mapping[str, float]
    """FLOP/s by precision; empty for CPUs."""
    speed: Mapping[str, Spread]
    """FLOP/s that are assumed, by precision."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != CPU


def choose_device(config: RunConfig, name: str | None) -> tuple[Device, str]:
    """The named GPU (or "cpu"), else what the config asks for; and a sentence if that was a guess.

    Without a name a config with GPUs is planned for the one whose memory is nearest to `cluster.gpu_memory_gb`.
    ConfigError for an unknown name.
    """
    if name is not None:
        if name.casefold() == CPU.casefold():
            return _cpu(config), ""
        known = {gpu.casefold(): gpu for gpu in GPUS}
        if name.casefold() not in known:
            raise ConfigError(f"--gpu {name}: not in the table. Known: {', '.join(GPUS)}, cpu.")
        return _gpu(known[name.casefold()]), ""
    if not config.cluster.worker_gpus:
        return _cpu(config), ""
    wanted = config.cluster.gpu_memory_gb
    if wanted is None:
        return _gpu(DEFAULT), f"No --gpu was given: {DEFAULT} is assumed."
    nearest = min(GPUS, key=lambda gpu: (abs(GPUS[gpu].memory_gib - wanted), gpu != DEFAULT))
    return _gpu(nearest), f"No --gpu was given: {nearest} is assumed, since cluster.gpu_memory_gb is {wanted:g}."


def _gpu(name: str) -> Device:
    gpu = GPUS[name]
    peak = {"fp32": gpu.fp32 * 1e12, "fp16": gpu.fp16 * 1e12, "bf16": (gpu.fp16 if gpu.bf16 else gpu.fp32) * 1e12}
    half = {"fp16": HALF_SHARE, "bf16": HALF_SHARE if gpu.bf16 else FP32_SHARE, "fp32": FP32_SHARE}
    return Device(name, gpu.memory_gib * GIB, peak, {kind: half[kind].times(peak[kind]) for kind in peak})


def _cpu(config: RunConfig) -> Device:
    without = config.cluster.model_copy(update={"worker_gpus": 0.0})
    speed = CPU_THREAD.times(min(config.cluster.threads, os.cpu_count() or 1))
    memory = worker_memory(without, config.train.workers)
    return Device(CPU, memory, {}, dict.fromkeys(("fp32", "bf16", "fp16"), speed))
