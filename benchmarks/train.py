"""What a training step costs: against a bare loop, between objectives, and from stored against inline inversion.

Everything is measured in one process on one worker, the variants taking turns step by step, on the embedded world's
model and data (full fine-tuning and ZeRO 0 unless said). Ratios are medians over the turns.

    python benchmarks/train.py [--quick] [--json] [--turns 20]
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")

import pyarrow as pa
import torch
import torch.distributed as dist
from torch.nn.functional import logsigmoid

from prefopt.config import RunConfig, load_config
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.diffusion.errors import denoising_error
from prefopt.diffusion.inversion import invert, reference_levels
from prefopt.diffusion.schedule import NoiseSchedule, target_noise
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.references import ReferenceErrors
from prefopt.distributed.session import start_ray, stop_ray
from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.job import PROMPTS
from prefopt.distributed.training.records import pair_arrays, record_line, step_record
from prefopt.distributed.training.run import TrainingRun
from prefopt.distributed.training.worker import build_run
from prefopt.models.families import predict
from prefopt.models.loading import load_pipeline, noise_schedule
from prefopt.stages.chain import Chain
from prefopt.stages.train import prepare

PAIRS = 32
"""Per step, in one micro-batch: 64 images."""
RUNS = (1, 3, 10)
"""Models that share one visit store."""
DPO = "{name: dpo, beta: 2000}"
ADAPTIVE = "{name: adaptive_dpo, beta: 2000, u: {warmup: 1}}"
SMPO = "{name: smpo, beta: 2000}"
LORA, CACHED = ("train.method=lora",), ("train.reference=cached",)
Step = Callable[[int], None]
"""One optimizer step on batch number i."""


def inverted(levels: int) -> tuple[str, ...]:
    """Visits with inverted noise on a grid as published."""
    settings = ("inversion=renoise", f"steps={levels}", "grid=reference")
    return tuple(f"score.visits.{setting}" for setting in settings)


class Bench:
    """The scored data of one place, and steps on it."""

    def __init__(self, place: Path, turns: int) -> None:
        self._place, self.turns = place, turns

    def config(self, objective: str, *overrides: str) -> RunConfig:
        """The quickstart with one micro-batch a step."""
        fixed = [f"store={self._place}/store", "inject.flips=[]", "ingest.sources.0.pairs=400"]
        fixed += [f"train.{name}={PAIRS}" for name in ("global_batch", "micro_batch")]
        fixed += ["train.workers=1", f"train.steps={self.turns + 1}", f"train.objective={objective}"]
        fixed += ["train.trackers.tensorboard=false"]
        return load_config("examples/quickstart.yaml", [*fixed, *overrides])

    def scored(self, config: RunConfig) -> Chain:
        """The run's chain with score done; seconds of the score stage's own work are in its logs."""
        run_dir = str(self._place / "run")
        quiet = lambda done, total, what, how="": None  # noqa: E731
        chain = Chain(config, run_dir, start_engine=lambda: start_ray(config.cluster, verbose=False), progress=quiet)
        chain.run(("ingest", "inject", "score"))
        return chain

    def prepared(self, config: RunConfig) -> TrainingRun:
        """A run that is ready for its first step."""
        job, _ = prepare(self.scored(config).context("train"))
        return build_run(job, torch.device("cpu"))

    def step(self, objective: str, *overrides: str) -> Step:
        """prefopt's own step: data, forward passes, objective, update, averages and the line of figures."""
        config = self.config(objective, *overrides)
        run, lr = self.prepared(config), config.train.optimizer.lr

        def step(number: int) -> None:
            outcome, values = run.trainer.step(run.reader.get(number, self.turns + 1), lr)
            seen = run.health.observe(
                number + 1, applied=outcome.applied, grad_norm=outcome.grad_norm, values=pair_arrays(values)
            )
            record_line(step_record(number + 1, lr, outcome, values, seen.figures))

        return step

    def inline(self, levels: int) -> Step:
        """SmPO as published: both images are inverted with the moving policy in every step, the reference is live.

        Each row goes through its own number of levels only, which batched code seldom does.
        """
        config = self.config(SMPO)
        run, lr = self.prepared(config), config.train.optimizer.lr
        schedule = noise_schedule(load_pipeline(config.model, vae=None))

        def step(number: int) -> None:
            (batch,) = run.reader.get(number, self.turns + 1)
            run.trainer.step([_inverted_now(batch, run, schedule, levels)], lr)

        return step

    def bare(self) -> Step:
        """Forward, backward, clip and AdamW in plain torch, with a reference, on batches in memory."""
        config = self.config(DPO)
        reader = self.prepared(config).reader
        batches = [reader.get(number, self.turns + 1)[0] for number in range(self.turns + 1)]
        policy, reference = (load_pipeline(config.model, vae=None).unet for _ in range(2))
        policy.requires_grad_(True)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=config.train.optimizer.lr)

        def step(number: int) -> None:
            batch = batches[number]
            with torch.no_grad():
                known = _errors(reference, batch)
            errors = _errors(policy, batch)
            z = (known[:PAIRS] - known[PAIRS:]) - (errors[:PAIRS] - errors[PAIRS:])
            (-logsigmoid(0.5 * 2000 * z)).mean().backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return step

    def ratio(self, numerator: Step, denominator: Step) -> tuple[float, float, float]:
        """Median ratio of two steps that take turns, and median seconds of each. The first turn is not counted."""
        pairs = []
        for number in range(self.turns + 1):
            order = (numerator, denominator) if number % 2 else (denominator, numerator)
            seconds = {step: _seconds(step, number) for step in order}
            pairs.append((seconds[numerator], seconds[denominator]))
        ratio = statistics.median(first / second for first, second in pairs[1:])
        return ratio, *(statistics.median(side) for side in zip(*pairs[1:], strict=True))


def _seconds(step: Step, number: int) -> float:
    started = time.perf_counter()
    step(number)
    return time.perf_counter() - started


def _errors(unet: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    return denoising_error(predict(unet, batch.xt, batch.t, batch.conditioning), batch.target)


@torch.no_grad()
def _inverted_now(batch: MicroBatch, run: TrainingRun, schedule: NoiseSchedule, levels: int) -> MicroBatch:
    ab = schedule.alphas_cumprod[batch.t].float().reshape(-1, 1, 1, 1)
    x0 = (batch.xt - (1 - ab).sqrt() * batch.target) / ab.sqrt()
    passed = sum((batch.t > level).long() for level in reference_levels(levels, schedule.num_steps))
    xt = x0.clone()
    for count in range(1, levels + 1):
        rows = torch.nonzero(passed == count).flatten()
        if len(rows):
            told = batch.conditioning.select(rows)
            xt[rows] = invert(
                lambda x, t, told=told: predict(run.models.engine.module, x, t, told),
                x0[rows],
                batch.t[rows],
                schedule,
                num_steps=levels,
                renoise_steps=1,
                grid="reference",
            )
    return replace(batch, xt=xt, target=target_noise(x0, xt, batch.t, schedule))


def score_seconds(bench: Bench, objective: str, *settings: str) -> float:
    """Seconds for all visits of a run: the reference's errors, and inversion where the settings ask for it, on one
    worker, models loaded, in a new store."""
    config = bench.config(objective, *settings, *CACHED)
    context = bench.scored(config).context("train")
    job, plan = prepare(context)
    empty = Storage(f"{context.store.uri}-again-{len(settings)}-{config.score.visits.steps}")
    shutil.copytree(context.store.path("x0"), empty.path("x0"))
    visits = plan.select(VISITS.names)
    prompts = job.work.read_table(PROMPTS)["prompt"].to_pylist()
    texts = pa.array([prompts[index] for index in plan["prompt"].to_pylist()])
    job.work.write_table("inversions.parquet", visits.append_column("prompt", texts))
    inverts = InvertVisits(config, empty, job.work) if config.score.visits.inversion != "none" else None
    measures = ReferenceErrors(config, empty, torch.device("cpu"))
    started = time.perf_counter()
    if inverts:
        inverts({"start": 0, "count": plan.num_rows})
    measures.measure(plan, prompts)
    return time.perf_counter() - started


def whole_runs(figures: dict[str, float], scored: float, ratio: str, name: str, steps: int) -> dict[str, float]:
    """Seconds per model of score and training together, for several models on one store, against doing all of it in
    every training step, the published way."""
    inline, stored = figures[f"{ratio}_seconds"] * steps, figures[f"{ratio}_against_seconds"] * steps
    found = {f"{name}_score_seconds": scored, f"{name}_inline_train_seconds": inline}
    for runs in RUNS:
        each = scored / runs + stored
        found[f"{name}_seconds_per_model_{runs}_runs"] = each
        print(
            f"{name}, {runs} models on one store, {steps} steps each: {each:.1f} s a model (score {scored:.1f} s once,"
            f" train {stored:.1f} s), all in training {inline:.1f} s: {inline / each:.2f} times"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        dist.init_process_group("gloo", init_method=f"file://{place}/rendezvous", rank=0, world_size=1)
        bench = Bench(Path(place), 6 if arguments.quick else arguments.turns)
        stored = {levels: (*inverted(levels), *CACHED) for levels in (5, 10)}
        compared: dict[str, tuple[Callable[[], Step], Callable[[], Step]]] = {
            "step_over_bare": (lambda: bench.step(DPO), bench.bare),
            "adaptive_over_dpo": (lambda: bench.step(ADAPTIVE), lambda: bench.step(DPO)),
            "adaptive_over_dpo_lora": (lambda: bench.step(ADAPTIVE, *LORA), lambda: bench.step(DPO, *LORA)),
            "adaptive_over_dpo_cached": (lambda: bench.step(ADAPTIVE, *CACHED), lambda: bench.step(DPO, *CACHED)),
            "smpo_stored_over_inline_5": (lambda: bench.inline(5), lambda: bench.step(SMPO, *stored[5])),
            "smpo_stored_over_inline_10": (lambda: bench.inline(10), lambda: bench.step(SMPO, *stored[10])),
            "dpo_cached_over_reference": (lambda: bench.step(DPO), lambda: bench.step(DPO, *CACHED)),
        }
        for name, (numerator, denominator) in compared.items():
            ratio, first, second = bench.ratio(numerator(), denominator())
            figures |= {name: ratio, f"{name}_seconds": first, f"{name}_against_seconds": second}
            print(f"{name}: {ratio:.2f} ({first:.3f} s against {second:.3f} s a step)", flush=True)
        steps = bench.turns + 1
        figures |= whole_runs(figures, score_seconds(bench, DPO), "dpo_cached_over_reference", "dpo_cached", steps)
        for levels in (5, 10):
            scored = score_seconds(bench, SMPO, *inverted(levels))
            figures |= whole_runs(figures, scored, f"smpo_stored_over_inline_{levels}", f"smpo_{levels}", steps)
        dist.destroy_process_group()
        stop_ray()
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
