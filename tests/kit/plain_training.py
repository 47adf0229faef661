"""Training in float64 without DeepSpeed.

Real: the plan and its micro-batches, prompts, the trainer's step with objective, judge and averages, the optimizer and
its rate. Stand-ins: the engine (torch's optimizer on the weights themselves), the models (plain copies), the averages'
shadows (float64 here, float32 in a run), and the reference's errors known beforehand (they keep their float64 here; a
run's store holds float32).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from prefopt.config.objective import MinorityConfig
from prefopt.config.train import TrainConfig
from prefopt.diffusion.errors import denoising_error
from prefopt.distributed.training.averages import Averages
from prefopt.distributed.training.batches import Denoising, MicroBatch, StepReader
from prefopt.distributed.training.denoisers import AVERAGES
from prefopt.distributed.training.engine import StepOutcome, learning_rate, make_optimizer, trainable
from prefopt.distributed.training.job import PROMPTS, TrainingJob
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.distributed.training.step import Trainer
from prefopt.models.adapters import POLICY, REFERENCE
from prefopt.models.ema import EmaShadow
from prefopt.models.families import Conditioning, predict
from prefopt.models.loading import load_pipeline, noise_schedule, prediction_type
from prefopt.models.unets import load_unet

DTYPE = torch.float64


@dataclass(frozen=True)
class PlainRun:
    """What came of a run."""

    losses: list[float]
    u: list[float]
    """Mean of the u that the objective used, by step; empty where it uses none."""
    weights: dict[str, Tensor]


class PlainEngine:
    """What the trainer needs of an engine, at ZeRO 0."""

    zero = 0

    def __init__(self, module: nn.Module, train: TrainConfig) -> None:
        self.module = module.requires_grad_(True)
        self.parameters = trainable(module)
        self._train, self._taken = train, 0
        self._optimizer = make_optimizer(list(self.parameters.values()), train.optimizer)

    def __call__(self, xt: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return predict(self.module, xt, t, conditioning)

    def backward(self, loss: Tensor) -> None:
        (loss / self._train.micro_batches).backward()

    def step(self, lr: float) -> StepOutcome | None:
        self._taken += 1
        if self._taken % self._train.micro_batches:
            return None
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self._train.optimizer.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        return StepOutcome(True, float(norm))

    @contextmanager
    def float32_values(self, names: Sequence[str]) -> Iterator[list[Tensor]]:
        yield [self.parameters[name].data for name in names]


class PlainDenoisers:
    """Policy, reference and averages, each a UNet of its own."""

    def __init__(self, job: TrainingJob, averages: Sequence[str]) -> None:
        unet = load_unet(job.weights.init, job.weights.base, DTYPE)
        self._frozen = {who: copy.deepcopy(unet) for who in (*averages, REFERENCE)}
        self.engine = PlainEngine(unet, job.config.train)

    @torch.no_grad()
    def predict(self, who: str, batch: MicroBatch) -> Tensor:
        module = self.engine.module if who == POLICY else self._frozen[who]
        return predict(module, batch.xt, batch.t, batch.conditioning)

    def weights(self, who: str) -> dict[str, nn.Parameter]:
        return dict(self._frozen[who].named_parameters())


class WideShadow(EmaShadow):
    """An average that keeps the dtype of the weights: rounding to float32 would turn a difference in the last bit of
    float64 into one in the last bit of float32."""

    def __init__(self, values: Sequence[Tensor], decay: float, ramp: bool) -> None:
        super().__init__(values, decay, ramp)
        self.tensors = [value.detach().clone() for value in values]


def train_plain(job: TrainingJob, *, known: bool = False) -> PlainRun:
    """Train a prepared job on CPU; needs a process group of one.

    `known`: the reference's errors are measured before each step, in one batch of all its pairs, as a cached
    reference's are measured in batches of a size of their own.
    """
    train, params = job.config.train, job.config.train.objective
    pipeline = load_pipeline(job.config.model, DTYPE, unet=None, vae=None)
    how = Denoising(noise_schedule(pipeline), prediction_type(pipeline), DTYPE, torch.device("cpu"))
    texts = job.work.read_table(PROMPTS)["prompt"].to_pylist()
    prompts = PromptEmbeddings(pipeline, texts, batch=train.micro_batch)
    u = params.u if params.name == "adaptive_dpo" else MinorityConfig(source="offline")
    who = () if u.source == "offline" else AVERAGES
    models = PlainDenoisers(job, who)
    with patch("prefopt.distributed.training.averages.EmaShadow", WideShadow):
        averages = Averages(models, who, u.ema)
    trainer = Trainer(models, averages, params)
    reader = StepReader(job, prompts, how, rank=0, world_size=1)
    run = PlainRun([], [], {})
    for step in range(train.steps):
        batches = reader.get(step, train.steps)
        _, values = trainer.step(
            _with_known_errors(models, batches) if known else batches, learning_rate(train.optimizer, step)
        )
        run.losses.append(float(values["loss"].mean()))
        if "u" in values:
            run.u.append(float(values["u"].mean()))
    run.weights.update({name: parameter.detach() for name, parameter in models.engine.parameters.items()})
    return run


def _with_known_errors(models: PlainDenoisers, batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    whole = replace(
        batches[0],
        xt=torch.cat([batch.xt for batch in batches]),
        t=torch.cat([batch.t for batch in batches]),
        conditioning=Conditioning.cat([batch.conditioning for batch in batches]),
    )
    target = torch.cat([batch.target for batch in batches])
    errors = denoising_error(models.predict(REFERENCE, whole), target)
    parts = torch.split(errors, [2 * batch.pairs for batch in batches])
    return [
        replace(batch, reference=(part[: batch.pairs], part[batch.pairs :]))
        for batch, part in zip(batches, parts, strict=True)
    ]
