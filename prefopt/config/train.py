"""Fine-tuning: what is trained, on how many workers, under which objective."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count, Positive, Share
from prefopt.config.objective import DpoParams, ObjectiveConfig


class LoraConfig(Branch):
    """Low-rank adapters on the UNet's attention."""

    rank: Count = 8
    alpha: Positive = 8.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


class OptimizerConfig(Branch):
    """AdamW, with a linear warm-up to a constant learning rate."""

    lr: Positive = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-2
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    clip: Positive = 1.0
    """Largest global gradient norm."""


OUTSIDE_KEYS = frozenset({"workers", "checkpoint_every", "keep_checkpoints", "max_failures"})
"""Fields of TrainConfig that no result depends on: they enter neither keys nor reports."""


class TrainConfig(Branch):
    """Preference fine-tuning with Ray Train and DeepSpeed ZeRO."""

    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    objective: ObjectiveConfig = DpoParams()
    optimizer: OptimizerConfig = OptimizerConfig()
    steps: Count = 2000
    """Optimizer steps."""
    global_batch: Count = 32
    """Pairs per optimizer step, over all workers."""
    micro_batch: Count = 16
    """Pairs per forward pass. Micro-batch j of a step goes to worker j mod workers, whatever their number."""
    zero: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO stage."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpoint_every: Count = 50
    """Optimizer steps between checkpoints."""
    keep_checkpoints: Count = 2
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often training restarts from the newest checkpoint after a lost worker."""
    workers: Count = 1
    """Training workers. Never part of a key: results do not depend on it."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step, over all workers."""
        return self.global_batch // self.micro_batch

    @model_validator(mode="after")
    def _batches_divide(self) -> "TrainConfig":
        if self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}")
        if self.micro_batches % self.workers:
            raise ValueError(f"{self.micro_batches} micro-batches per step do not divide among {self.workers} workers")
        return self
