"""The DeepSpeed engine around the policy: forward, backward, step, and its weights in float32 at every ZeRO stage."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prefopt.config.train import OptimizerConfig, TrainConfig
from prefopt.distributed.deepspeed_config import (
    clips,
    deepspeed_config,
    frozen_model_config,
    is_plain,
    without_compiled_collectives,
)
from prefopt.models.families import Conditioning, predict

ENGINE = "engine"
"""Directory of the engine's files in a checkpoint."""


@dataclass(frozen=True)
class StepOutcome:
    """What an optimizer step did."""

    applied: bool
    """False if the step was skipped because its gradient is not finite, as fp16's is when its loss scale overflows."""
    grad_norm: float
    """Global norm before clipping."""


def start_deepspeed() -> None:
    """Connect DeepSpeed to the process group that Ray Train has set up."""
    import deepspeed

    without_compiled_collectives()
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), auto_mpi_discovery=False, verbose=False)


def learning_rate(optimizer: OptimizerConfig, step: int) -> float:
    """Of a step counted from 0: a linear warm-up, then constant."""
    return optimizer.lr * min(1.0, (step + 1) / max(1, optimizer.warmup_steps))


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, in the module's order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class PolicyEngine:
    """The policy under DeepSpeed. The module stays in eval mode: the policy has no dropout."""

    def __init__(self, module: nn.Module, train: TrainConfig, world_size: int, zero_options: Mapping[str, Any]) -> None:
        import deepspeed

        self.zero = train.zero_stage
        self._train = train
        self.parameters = trainable(module)
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=make_optimizer(list(self.parameters.values()), train.optimizer),
            config=deepspeed_config(train, world_size, zero_options),
        )
        self._engine.module.eval()
        bear_the_least_scale(self._engine.optimizer)
        self._masters = self._half_precision_masters()

    @property
    def module(self) -> nn.Module:
        """The policy's own module, for evaluations without gradient."""
        module: nn.Module = self._engine.module
        return module

    def __call__(self, xt: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Predictions with gradient."""
        return predict(self._engine, xt, t, conditioning)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a micro-batch's mean loss; the engine averages over micro-batches."""
        self._engine.backward(loss)

    def step(self, lr: float) -> StepOutcome | None:
        """After each micro-batch's backward; the last of an optimizer step updates, the others return None."""
        last = self._engine.is_gradient_accumulation_boundary()
        norm = self._clip_plain() if last and self._plain else None
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        scale = self._loss_scale()
        self._engine.step()
        if not last:
            return None
        if norm is None:
            norm = unscaled_norm(float(self._engine.get_global_grad_norm()), self.zero, scale, self._loss_scale())
        return StepOutcome(bool(self._engine.was_step_applied()) and math.isfinite(norm), norm)

    @contextlib.contextmanager
    def float32_values(self, names: Sequence[str]) -> Iterator[list[Tensor]]:
        """Whole weights in float32 of some trained parameters, on every worker, at every ZeRO stage."""
        parameters = [self.parameters[name] for name in names]
        if self._train.precision == "fp32":
            with gathered(parameters, self.zero):
                yield [parameter.data for parameter in parameters]
        elif self.zero == 0:
            yield [self._masters[id(parameter)] for parameter in parameters]
        else:
            from deepspeed.utils import safe_get_full_fp32_param

            yield [safe_get_full_fp32_param(parameter) for parameter in parameters]

    def save(self, directory: Path) -> None:
        """Write weights and optimizer state of this worker into `directory`/engine.

        Frozen weights are left out. Every worker calls it.
        """
        self._engine.save_checkpoint(str(directory), tag=ENGINE, save_latest=False, exclude_frozen_parameters=True)
        (directory / "zero_to_fp32.py").unlink(missing_ok=True)

    def load(self, directory: Path, *, universal: bool = False) -> None:
        """Continue from files written by `save`, which lie in `directory`/engine.

        `universal` says that they were converted for another number of workers. Every worker calls it.
        """
        self._engine._config.load_universal_checkpoint = universal
        path, _ = self._engine.load_checkpoint(
            str(directory), tag=ENGINE, load_module_strict=False, load_lr_scheduler_states=False
        )
        if path is None:
            raise RuntimeError(f"DeepSpeed found no checkpoint in {directory}")
        self._engine.module.eval()
        bear_the_least_scale(self._engine.optimizer)
        self._masters = self._half_precision_masters()

    @property
    def _plain(self) -> bool:
        return is_plain(self._train)

    def _loss_scale(self) -> float:
        return float(getattr(self._engine.optimizer, "loss_scale", 1.0))

    def _clip_plain(self) -> float:
        """Clip where the engine has no optimizer of its own around torch's; returns the norm before.

        Gradients that are not finite are dropped: without any, the engine's step changes nothing.
        """
        parameters = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            for parameter in parameters:
                parameter.grad = None
        elif clips(self._train):
            torch.nn.utils.clip_grads_with_norm_(parameters, self._train.optimizer.clip, norm)
        return float(norm)

    def _half_precision_masters(self) -> dict[int, Tensor]:
        if self.zero or self._train.precision == "fp32":
            return {}
        optimizer = self._engine.optimizer
        pairs = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        return {id(low): high for lows, highs in pairs for low, high in zip(lows, highs, strict=True)}


def bear_the_least_scale(optimizer: Any) -> None:
    """Let a step be skipped also where fp16's loss scale cannot fall any more, which DeepSpeed's ZeRO optimizers raise
    a bare exception about: how many are borne is the guard's business."""
    scaler = getattr(optimizer, "loss_scaler", None)
    if scaler is not None and hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False


def unscaled_norm(norm: float, zero: int, before: float, after: float) -> float:
    """The gradient's norm, from what DeepSpeed reports in a step with the loss scale `before` and `after` it.

    ZeRO 0 reports the norm of the scaled gradient, ZeRO 1 and 2 the gradient's own. ZeRO 3 divides by the scale
    after the step, which may have grown in it.
    """
    if zero == 0:
        return norm / before
    return norm * after / before if zero == 3 else norm


def make_optimizer(parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW of torch, or Adafactor with a fixed rate and without scaling, as the published SDXL runs use it."""
    if config.name == "adafactor":
        from transformers.optimization import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            parameters,
            lr=config.lr,
            weight_decay=config.weight_decay,
            clip_threshold=1.0,
            scale_parameter=False,
            relative_step=False,
        )
        return adafactor
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )


@contextlib.contextmanager
def gathered(parameters: Sequence[nn.Parameter], zero: int, *, write: bool = False) -> Iterator[None]:
    """Whole weights at ZeRO 3 while the block runs; with `write`, worker 0's changes reach every shard."""
    if zero < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0 if write else None):
        yield


def shard_frozen(module: nn.Module, train: TrainConfig, zero_options: Mapping[str, Any]) -> nn.Module:
    """A module that is only evaluated, with its weights sharded over the workers at ZeRO 3."""
    if train.zero_stage < 3:
        return module
    import deepspeed

    engine, *_ = deepspeed.initialize(model=module, config=frozen_model_config(train, zero_options))
    sharded: nn.Module = engine.module
    return sharded.eval()
