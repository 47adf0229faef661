"""What stored visits cost in accuracy: latents rounded to float16, and inversions that grow stale.

The embedded world's model and data, the quickstart's settings with SmPO and inverted noise, in one process. Training
runs from stored float32 visits; at some steps the policy inverts a fixed set of visits itself, as published SmPO does
in every step, and that is compared with what the store holds. At one of them the same visits are read from a float16
store.

    python benchmarks/visits.py [--quick] [--json] [--steps 120]
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid

from prefopt.config import RunConfig, load_config
from prefopt.data.keys import LATENTS
from prefopt.data.schema import VISITS
from prefopt.data.visits import VisitBatch
from prefopt.diffusion.errors import denoising_error, error_gap
from prefopt.distributed.inversions import InvertVisits, VisitInverter
from prefopt.distributed.session import start_ray, stop_ray
from prefopt.distributed.stores import VisitReader, latent_stores
from prefopt.distributed.training.batches import Denoising, MicroBatch, make_micro_batch
from prefopt.distributed.training.engine import learning_rate
from prefopt.distributed.training.job import PROMPTS
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.distributed.training.refresh import noise_change
from prefopt.distributed.training.worker import build_run
from prefopt.models.adapters import REFERENCE
from prefopt.models.families import predict
from prefopt.models.loading import load_pipeline, noise_schedule, prediction_type
from prefopt.stages.chain import Chain
from prefopt.stages.train import prepare

CHECKPOINTS = (0, 10, 20, 40, 60, 120)
ROUNDED_AT = 60
"""Where float16 is compared: the demo's length, at its rate."""
RATES = {5e-5: 120, 2e-4: 60}
"""The demo's, and one four times as large; how many steps each takes."""
BETAS = (2000, 5000)
Figures = dict[str, float]


def config_of(place: Path, steps: int, rate: float) -> RunConfig:
    """The quickstart with SmPO on inverted noise."""
    settings = [
        f"store={place}/store",
        "score.visits.inversion=renoise",
        "score.latent_dtype=float32",
        "train.objective={name: smpo, beta: 2000}",
        f"train.steps={steps}",
        f"train.optimizer.lr={rate}",
        "train.workers=1",
        "train.trackers.tensorboard=false",
    ]
    return load_config("examples/quickstart.yaml", settings)


@dataclass(frozen=True)
class Look:
    """What a policy and its reference make of some visits."""

    errors: Tensor
    """The policy's, winners then losers, batch after batch."""
    z: Tensor
    factor: Tensor
    """gamma (2 alpha - 1) of each pair."""
    gradients: Sequence[Tensor]
    """Of the mean SmPO loss by all of the policy's parameters, batch by batch."""

    @property
    def gradient(self) -> Tensor:
        """Of all batches."""
        return sum(self.gradients[1:], start=self.gradients[0])

    def logit(self, beta: float, *, smoothed: bool) -> Tensor:
        """DPO's or SmPO's, of each pair."""
        return 0.5 * beta * self.z * (self.factor if smoothed else 1.0)

    def loss(self, beta: float, *, smoothed: bool = True) -> float:
        """The mean over pairs."""
        return float(-logsigmoid(self.logit(beta, smoothed=smoothed)).mean())


class Lab:
    """A run that trains from float32 visits, and some visits that it never trains on."""

    def __init__(self, config: RunConfig, run_dir: Path, held: int) -> None:
        engine = partial(start_ray, config.cluster, verbose=False)
        chain = Chain(config, str(run_dir), start_engine=engine, progress=lambda *_: None)
        chain.run(("ingest", "inject", "score"))
        self.job, plan = prepare(chain.context("train"))
        self.config, self.held = config, plan.slice(plan.num_rows - held)
        self.run = build_run(self.job, torch.device("cpu"))
        self.policy = self.run.models.engine.module
        self.pipeline = load_pipeline(config.model, vae=None, unet=None)
        self.schedule = noise_schedule(self.pipeline)
        self.texts = self.job.work.read_table(PROMPTS)["prompt"].to_pylist()
        self.prompts = PromptEmbeddings(self.pipeline, self.texts, batch=config.train.micro_batch, cache_mb=100)
        self.how = Denoising(self.schedule, prediction_type(self.pipeline), torch.float32, torch.device("cpu"))

    def train(self, first: int, last: int) -> None:
        """Optimizer steps from `first` up to `last`."""
        for step in range(first, last):
            batches = self.run.reader.get(step, self.config.train.steps)
            self.run.trainer.step(batches, learning_rate(self.config.train.optimizer, step))

    def parts(self) -> list[pa.Table]:
        """The held visits in micro-batches."""
        size = self.config.train.micro_batch
        return [self.held.slice(start, size) for start in range(0, self.held.num_rows, size)]

    def stored(self, config: RunConfig, *, clean: bool = False) -> list[VisitBatch]:
        """The held visits as a store has them."""
        reader = VisitReader(self.job.store, config, clean=clean)
        reader.refresh()
        return [reader.read(part) for part in self.parts()]

    def online(self, visits: Sequence[VisitBatch]) -> list[np.ndarray]:
        """x_t of the held visits, inverted by the policy as it is."""
        invert = VisitInverter(self.config, self.pipeline, torch.device("cpu"))
        found = []
        for part, batch in zip(self.parts(), visits, strict=True):
            told = self.prompts.get(part["prompt"].to_pylist(), batch.drop_prompt.tolist()).repeat(2)
            with torch.no_grad():
                found.append(invert(batch, lambda x, t, told=told: predict(self.policy, x, t, told)))
        return found

    def staleness(self, visits: Sequence[VisitBatch], xt: Sequence[np.ndarray]) -> float:
        """As `train.refresh` measures it."""
        changes = [noise_change(*pair, self.schedule) for pair in zip(visits, xt, strict=True)]
        return float(np.sqrt(np.mean(np.concatenate(changes))))

    def batches(self, visits: Sequence[VisitBatch]) -> list[MicroBatch]:
        """As training would get them."""
        return [make_micro_batch(*pair, self.prompts, self.how) for pair in zip(self.parts(), visits, strict=True)]

    def look(self, batches: Sequence[MicroBatch]) -> Look:
        """Errors, gaps and the gradient of SmPO's loss on some micro-batches."""
        params = self.config.train.objective
        weights, gradients = list(self.run.models.engine.parameters.values()), []
        seen: list[tuple[Tensor, Tensor, Tensor]] = []
        for batch in batches:
            known = denoising_error(self.run.models.predict(REFERENCE, batch), batch.target)
            errors = denoising_error(predict(self.policy, batch.xt, batch.t, batch.conditioning), batch.target)
            n, factor = batch.pairs, params.gamma * (2.0 * batch.alpha - 1.0)
            z = error_gap(known[:n], known[n:], errors[:n], errors[n:])
            loss = -logsigmoid(0.5 * params.beta * factor * z).mean() / len(batches)
            gradients.append(torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, weights)]))
            seen.append((errors.detach(), z.detach(), factor))
        errors, z, factor = (torch.cat(column).double() for column in zip(*seen, strict=True))
        return Look(errors, z, factor, gradients)

    def float16(self) -> RunConfig:
        """The same run on a float16 store, which is filled for the held visits."""
        score = self.config.score.model_copy(update={"latent_dtype": "float16"})
        config = self.config.model_copy(update={"score": score})
        for size, wide in latent_stores(self.job.store, self.config).items():
            wide.refresh()
            keys = sorted({key for side in (0, 1) for key in self.held[f"latent_key_{side}"].to_pylist()})
            narrow = latent_stores(self.job.store, config)[size]
            cells = [narrow.pack(latent, key) for key, latent in zip(keys, wide.latents(keys, LATENTS), strict=True)]
            narrow.append(pa.table({"key": keys, LATENTS: cells}))
        texts = pa.array([self.texts[index] for index in self.held["prompt"].to_pylist()])
        self.job.work.write_table("inversions.parquet", self.held.select(VISITS.names).append_column("prompt", texts))
        InvertVisits(config, self.job.store, self.job.work)({"start": 0, "count": self.held.num_rows})
        return config


def cosine(first: Tensor, second: Tensor) -> float:
    """Of two gradients."""
    return float(cosine_similarity(first.double(), second.double(), dim=0))


def staleness(lab: Lab, step: int, rate: float) -> Figures:
    """Offline against online noise at the policy as it is."""
    visits = lab.stored(lab.config)
    inverted = lab.online(visits)
    now = [replace(batch, xt_0=xt[0], xt_1=xt[1]) for batch, xt in zip(visits, inverted, strict=True)]
    offline, online = lab.batches(visits), lab.batches(now)
    sampled = lab.batches(lab.stored(lab.config, clean=True))
    pairs = [(old.target.flatten(1), new.target.flatten(1)) for old, new in zip(offline, online, strict=True)]
    cosines = torch.cat([cosine_similarity(old, new, dim=1) for old, new in pairs])
    half, beta = len(offline) // 2, lab.config.train.objective.beta
    old, new = lab.look(offline), lab.look(online)
    found = {
        "staleness": lab.staleness(visits, inverted),
        "noise_cosine": float(cosines.mean()),
        "noise_cosine_lowest_20th": float(cosines.quantile(0.05)),
        "loss_offline": old.loss(beta),
        "loss_online": new.loss(beta),
        "logit_rms": rms(new.logit(beta, smoothed=True)),
        "logit_change_rms": rms(new.logit(beta, smoothed=True) - old.logit(beta, smoothed=True)),
        "gradient_cosine": cosine(old.gradient, new.gradient),
        "gradient_length": float(old.gradient.norm() / new.gradient.norm()),
        "gradient_cosine_sampled": cosine(lab.look(sampled).gradient, new.gradient),
        "gradient_cosine_other_visits": cosine(sum(new.gradients[:half]), sum(new.gradients[half:])),
    }
    if step == 0:
        print(f"| rate | step | {' | '.join(found)} |\n|{'---|' * (2 + len(found))}")
    print(f"| {rate:g} | {step} | {' | '.join(f'{value:.4f}' for value in found.values())} |", flush=True)
    return {f"lr_{rate:g}_step_{step}_{name}": value for name, value in found.items()}


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.double().square().mean().sqrt())


def rounding(lab: Lab, config: RunConfig) -> Figures:
    """The float16 store of `config` against the float32 one at the policy as it is."""
    figures: Figures = {}
    for noise, clean in (("sampled", True), ("inverted", False)):
        reads = [lab.stored(of, clean=clean) for of in (lab.config, config)]
        wide, narrow = (lab.batches(read) for read in reads)
        exact, rounded = (
            {
                "x0": torch.cat([torch.from_numpy(side) for batch in read for side in (batch.x0_0, batch.x0_1)]),
                "x_t": torch.cat([batch.xt for batch in batches]),
                "target noise": torch.cat([batch.target for batch in batches]),
            }
            for read, batches in zip(reads, (wide, narrow), strict=True)
        )
        found: Figures = {}
        for name, value in exact.items():
            found[f"{name} relative"] = relative(rounded[name], value)
            found[f"{name} relative, largest"] = max(map(relative, rounded[name], value))
        before, after = lab.look(wide), lab.look(narrow)
        found["e(policy) relative"] = relative(after.errors, before.errors)
        found["e(policy) relative, largest"] = float(((after.errors - before.errors) / before.errors).abs().max())
        for beta in BETAS:
            for name, smoothed in (("DPO", False), ("SmPO", True)):
                logits = [look.logit(beta, smoothed=smoothed) for look in (before, after)]
                found[f"{name} logit, beta {beta}, rms"] = rms(logits[0])
                found[f"{name} logit, beta {beta}, change rms"] = rms(logits[1] - logits[0])
                found[f"{name} logit, beta {beta}, change largest"] = float((logits[1] - logits[0]).abs().max())
                losses = [look.loss(beta, smoothed=smoothed) for look in (before, after)]
                found[f"{name} loss, beta {beta}"] = losses[0]
                found[f"{name} loss, beta {beta}, change"] = losses[1] - losses[0]
        found["gradient, 1 - cosine"] = 1.0 - cosine(after.gradient, before.gradient)
        figures |= {f"{noise}: {name}": value for name, value in found.items()}
    return figures


def relative(found: Tensor, exact: Tensor) -> float:
    """Length of the difference over length of what is right."""
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=CHECKPOINTS[-1], help="optimizer steps of each run")
    parser.add_argument("--visits", type=int, default=128, help="visits that are compared, never trained on")
    parser.add_argument("--quick", action="store_true", help="twenty steps at the first rate, 64 visits")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    steps, held = (20, 64) if arguments.quick else (arguments.steps, arguments.visits)
    torch.set_num_threads(1)
    figures: Figures = {}
    rounded: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        dist.init_process_group("gloo", init_method=f"file://{place}/rendezvous", rank=0, world_size=1)
        for number, (rate, most) in enumerate(RATES.items()):
            if number and arguments.quick:
                break
            lab, done = Lab(config_of(place, steps + held // 32, rate), place / "run", held), 0
            narrow = None if number else lab.float16()
            for step in (step for step in CHECKPOINTS if step <= min(steps, most)):
                lab.train(done, step)
                done = step
                figures |= staleness(lab, step, rate)
                if narrow and step == 0:
                    visits = lab.stored(narrow)
                    rounded["staleness before training"] = lab.staleness(visits, lab.online(visits))
                if narrow and step == min(ROUNDED_AT, steps):
                    rounded |= rounding(lab, narrow)
        dist.destroy_process_group()
        stop_ray()
    print("\n| float16 against float32 | |\n|---|---|")
    for name, value in rounded.items():
        print(f"| {name} | {value:.3g} |")
    if arguments.json:
        named = {f"float16_{name}": value for name, value in rounded.items()}
        print(json.dumps(figures | named, sort_keys=True))


if __name__ == "__main__":
    main()
