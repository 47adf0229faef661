"""What a trained policy predicts, told by the warm workers that trained it."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from prefopt.distributed.training.batches import MicroBatch
from prefopt.distributed.training.job import TrainingJob
from prefopt.stages.base import StageContext
from prefopt.stages.train import finish, prepare
from tests.kit.workers import WorkerGroup


def run_stage_and_predict(
    group: WorkerGroup, context: StageContext, **options: Any
) -> tuple[dict[str, Tensor], MicroBatch]:
    """The whole train stage as by `WorkerGroup.run_stage`, then predictions of `policy` and `reference` on the first
    worker's first micro-batch, and that batch."""
    job, plan = prepare(context)
    segments, predictions, batch = group.call(_train_and_predict, replace(job, zero_options=options))
    finish(context, job, plan, segments)
    return predictions, batch


def _train_and_predict(_: Any, job: TrainingJob) -> tuple[list[str], dict[str, Tensor], MicroBatch]:
    import torch

    from prefopt.distributed.training.worker import build_run

    run = build_run(job, torch.device("cpu"))
    segments = run.run()
    run.export()
    batch = run.reader.get(0, job.config.train.steps)[0]
    return segments, {who: run.models.predict(who, batch).clone() for who in ("policy", "reference")}, batch
