"""Fine-tuning: what is trained, on how many workers, under which objective."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count, Positive, Share
from prefopt.config.health import GuardConfig, HealthConfig
from prefopt.config.objective import DpoParams, ObjectiveConfig


class LoraConfig(Branch):
    """Low-rank adapters on the UNet's attention."""

    rank: Count = 8
    alpha: Positive = 8.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


class OptimizerConfig(Branch):
    """The optimizer, with a linear warm-up to a constant learning rate."""

    name: Literal["adamw", "adafactor"] = "adamw"
    """`adafactor` needs `zero: 0`: on ZeRO's flat shards it loses its factored second moment."""
    lr: Positive = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-2
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Of AdamW."""
    eps: Positive = 1e-8
    """Of AdamW."""
    clip: Positive = 1.0
    """Largest global gradient norm."""


class RefreshConfig(Branch):
    """Visits whose latents the reference inverted, against the policy that moves away from it."""

    every: Count = 100
    """Optimizer steps between two measurements of how stale the coming visits are."""
    visits: Count = 32
    """Coming visits that the policy inverts for a measurement."""
    above: Annotated[float, Field(ge=0.0)] | None = None
    """From this staleness on, in standard deviations of the noise, the visits up to the next measurement are inverted
    again with the policy; 0: every time. By default staleness is only measured."""


class TrackerConfig(Branch):
    """Where the figures of training go besides steps.jsonl."""

    tensorboard: bool = True
    """Event files below logs/."""
    mlflow: str | None = None
    """Tracking URI of an MLflow server; needs the package mlflow."""
    wandb: str | None = None
    """Project at Weights & Biases; needs the package wandb."""


OUTSIDE_KEYS = frozenset(
    {"workers", "checkpoint_every", "keep_checkpoints", "max_failures", "prompt_cache_mb", "stall_factor", "trackers"}
)
"""Fields of TrainConfig that no result depends on: they enter neither keys nor reports."""
PLACES = frozenset({"init_from", "reference_from"})
"""Fields of TrainConfig that name weights: their digests enter keys in their stead."""


class TrainConfig(Branch):
    """Preference fine-tuning with Ray Train and DeepSpeed ZeRO."""

    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    init_from: str | None = None
    """Where the policy starts: a hub id, a directory (a model or LoRA weights), or an earlier run's directory.
    By default the base model."""
    reference_from: str | None = None
    """The reference, named as `init_from` is. By default the base model."""
    objective: ObjectiveConfig = DpoParams()
    reference: Literal["live", "cached"] = "live"
    """`cached`: the reference's errors come from the score stage's store and training holds no reference weights."""
    refresh: RefreshConfig | None = None
    """Measure how stale inverted visits are while training, and invert them again; needs `score.visits.inversion`."""
    optimizer: OptimizerConfig = OptimizerConfig()
    steps: Count = 2000
    """Optimizer steps."""
    global_batch: Count = 32
    """Pairs per optimizer step, over all workers."""
    micro_batch: Count = 16
    """Pairs per forward pass. Micro-batch j of a step goes to worker j mod workers, whatever their number."""
    zero: Literal[0, 1, 2, 3, "auto"] = 0
    """DeepSpeed ZeRO stage. `auto`: the lowest whose model states fit in the workers' memory."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What waits in host memory: the optimizer's state (ZeRO 1 to 3), or the weights too (ZeRO 3)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """torch.compile the UNet. Needs a compiler where the workers run."""
    guard: GuardConfig = GuardConfig()
    checkpoint_every: Count = 50
    """Optimizer steps between checkpoints."""
    keep_checkpoints: Count = 2
    """The last ones. With `guard.action: roll_back` the one that a roll-back would take is kept beside them."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often training restarts from the newest checkpoint after a lost worker."""
    prompt_cache_mb: Annotated[int, Field(ge=0)] = 2048
    """Memory of each worker for prompt embeddings that are used again (SD1.5; SDXL computes them live)."""
    health: HealthConfig = HealthConfig()
    stall_factor: Annotated[float, Field(gt=1.0)] = 10.0
    """A step that takes so many times the median writes every worker's stacks to logs/."""
    trackers: TrackerConfig = TrackerConfig()
    workers: Count = 1
    """Training workers. Never part of a key: results do not depend on it."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step, over all workers."""
        return self.global_batch // self.micro_batch

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage. Raises ValueError while `auto` has not been settled."""
        if self.zero == "auto":
            raise ValueError("zero auto must be settled before the stage is asked for")
        return self.zero

    @model_validator(mode="after")
    def _batches_divide(self) -> "TrainConfig":
        if self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}")
        if self.micro_batches % self.workers:
            raise ValueError(f"{self.micro_batches} micro-batches per step do not divide among {self.workers} workers")
        return self

    @model_validator(mode="after")
    def _zero_fits(self) -> "TrainConfig":
        if self.optimizer.name == "adafactor" and self.zero != 0:
            raise ValueError(f"optimizer.name adafactor needs zero 0, not {self.zero}: under ZeRO take adamw")
        if self.offload == "optimizer" and self.zero == 0:
            raise ValueError("offload optimizer needs zero 1, 2 or 3")
        if self.offload == "all" and self.zero not in (3, "auto"):
            raise ValueError(f"offload all needs zero 3 or auto, not {self.zero}")
        return self
