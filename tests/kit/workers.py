"""Warm training workers: a gloo process group of Ray actors that trains one job after another, without Ray Train."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from prefopt.distributed.training.job import TrainingJob
from prefopt.stages.base import StageContext, StageResult


@ray.remote(num_cpus=0.1)
class _Worker:
    def connect(self, rank: int, count: int, rendezvous: str) -> None:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=count)

    def train(self, job: TrainingJob) -> dict[str, Any]:
        import torch

        from prefopt.distributed.training.worker import train_job

        return train_job(job, torch.device("cpu"))

    def probe(self, job: TrainingJob, steps: int) -> dict[str, Any]:
        import torch

        from prefopt.diffusion.errors import denoising_error
        from prefopt.distributed.training.worker import build_run

        torch.set_num_threads(1)
        run = build_run(job, torch.device("cpu"))
        engine, history = run.models.engine, []
        for step in range(steps):
            run.trainer.step(run.reader.get(step, steps), job.config.train.optimizer.lr)
            with engine.float32_values(list(engine.parameters)) as values:
                history.append(dict(zip(engine.parameters, [value.clone() for value in values], strict=True)))
        batch = run.reader.get(0, steps)[0]
        predictions = {who: run.models.predict(who, batch) for who in ("policy", "slow", "fast", "reference")}
        errors = {who: denoising_error(prediction, batch.target) for who, prediction in predictions.items()}
        return {"history": history, "errors": errors, "batch": batch}

    def predictions(self, job: TrainingJob, steps: int) -> dict[str, Any]:
        import torch

        from prefopt.distributed.training.worker import build_run

        torch.set_num_threads(1)
        run = build_run(job, torch.device("cpu"))
        batch = run.reader.get(0, job.config.train.steps)[0]
        seen = [_predicted(run.models, batch)]
        for step in range(steps):
            run.trainer.step(run.reader.get(step, job.config.train.steps), job.config.train.optimizer.lr)
            seen.append(_predicted(run.models, batch))
        adapters = {name for name, _ in run.models.engine.module.named_parameters() if ".lora_A." in name}
        return {
            "seen": seen,
            "batch": batch,
            "adapters": {name.split(".")[-2] for name in adapters},
            "apart": getattr(run.models, "_apart", None) is not None,
        }

    def gradients(self, job: TrainingJob) -> dict[str, Any]:
        import torch
        from deepspeed.utils import safe_get_full_grad

        from prefopt.diffusion.errors import denoising_error
        from prefopt.distributed.training.worker import build_run

        torch.set_num_threads(1)
        run = build_run(job, torch.device("cpu"))
        engine, batch = run.models.engine, run.reader.get(0, job.config.train.steps)[0]
        kept: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            prediction = engine(batch.xt, batch.t, batch.conditioning)
        loss = denoising_error(prediction, batch.target).mean()
        engine.backward(loss)
        full = {
            name: parameter.grad if engine.zero == 0 else safe_get_full_grad(parameter)
            for name, parameter in engine.parameters.items()
        }
        gradients = {name: gradient.clone() for name, gradient in full.items() if gradient is not None}
        return {"loss": float(loss), "gradients": gradients, "kept": sum(kept)}


def _predicted(models: Any, batch: Any) -> dict[str, Any]:
    seen = {}
    for who in ("policy", "slow", "fast", "reference"):
        try:
            seen[who] = models.predict(who, batch).clone()
        except AssertionError as error:
            seen[who] = str(error)
    return seen


class WorkerGroup:
    """Some workers that stay. Needs a running Ray."""

    def __init__(self, count: int, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.count = count
        self._workers = [_Worker.remote() for _ in range(count)]
        rendezvous = str(directory / f"rendezvous-{count}")
        ray.get([worker.connect.remote(rank, count, rendezvous) for rank, worker in enumerate(self._workers)])

    def train(self, job: TrainingJob) -> dict[str, Any]:
        """Train a job on all workers; returns the first one's answer."""
        answer: dict[str, Any] = ray.get([worker.train.remote(job) for worker in self._workers])[0]
        return answer

    def run_stage(self, context: StageContext, **options: Any) -> StageResult:
        """The whole train stage with these workers in Ray Train's place; `options` are ZeRO options."""
        from dataclasses import replace

        from prefopt.stages.train import finish, prepare

        job, plan = prepare(context)
        answer = self.train(replace(job, zero_options=options))
        return finish(context, job, plan, answer["segments"])

    def probe(self, job: TrainingJob, steps: int) -> dict[str, Any]:
        """Take some steps; returns the first worker's view: the policy's weights after each, and the errors of all
        models on that worker's first micro-batch, with the batch itself."""
        answer: dict[str, Any] = ray.get([worker.probe.remote(job, steps) for worker in self._workers])[0]
        return answer

    def predictions(self, job: TrainingJob, steps: int = 0) -> dict[str, Any]:
        """The first worker's view at the start and after each of some steps: predictions on its first micro-batch by
        model (or why there is none), that batch, the names of adapters, and whether the reference is a UNet apart."""
        answer: dict[str, Any] = ray.get([worker.predictions.remote(job, steps) for worker in self._workers])[0]
        return answer

    def gradients(self, job: TrainingJob) -> dict[str, Any]:
        """The loss and whole gradients of the first micro-batch's mean error, and how many values the forward pass
        kept for them, on the first worker."""
        answer: dict[str, Any] = ray.get([worker.gradients.remote(job) for worker in self._workers])[0]
        return answer

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of a worker and these arguments, in every worker; returns the first one's answer."""
        return ray.get([worker.__ray_call__.remote(function, *arguments) for worker in self._workers])[0]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            ray.kill(worker)


class WorkerGroups:
    """Groups by their number of workers, each started when it is first asked for. ZeRO 3 has workers of its own: it
    replaces `torch.nn.functional.linear` in their processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._groups: dict[tuple[int, bool], WorkerGroup] = {}

    def get(self, count: int, zero: int = 0) -> WorkerGroup:
        """The group of so many workers that trains at a ZeRO stage."""
        key = (count, zero == 3)
        if key not in self._groups:
            self._groups[key] = WorkerGroup(count, self._root / f"rendezvous-{zero == 3}")
        return self._groups[key]

    def close(self) -> None:
        """End all workers."""
        for group in self._groups.values():
            group.close()
