"""Warm training workers that also tell what the trained policy predicts."""

from dataclasses import replace
from typing import Any

import ray
from torch import Tensor

from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.job import TrainingJob
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.train import finish, prepare
from tests.kit.workers import WorkerGroup


class PolicyGroup(WorkerGroup):
    """Some workers that stay. Needs a running Ray."""

    def run_stage_and_predict(
        self, context: StageContext, **options: Any
    ) -> tuple[StageResult, dict[str, Tensor], MicroBatch]:
        """The whole train stage as by `run_stage`, then predictions of `policy` and `reference` on the first worker's
        first micro-batch, and that batch."""
        job, plan = prepare(context)
        told = replace(job, zero_options=options)
        answers = ray.get([worker.__ray_call__.remote(_train_and_predict, told) for worker in self._workers])
        segments, predictions, batch = answers[0]
        return finish(context, job, plan, segments), predictions, batch


def _train_and_predict(_: Any, job: TrainingJob) -> tuple[list[str], dict[str, Tensor], MicroBatch]:
    import torch

    from prefopt.distributed.training.worker import build_run

    run = build_run(job, torch.device("cpu"))
    segments = run.run()
    run.export()
    batch = run.reader.get(0, job.config.train.steps)[0]
    return segments, {who: run.models.predict(who, batch).clone() for who in ("policy", "reference")}, batch
