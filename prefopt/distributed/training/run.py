"""The loop of a training worker: resume, step, checkpoint, and at the end the model."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefopt.data.manifest import FileEntry
from prefopt.distributed.training.averages import Averages
from prefopt.distributed.training.batches import StepReader
from prefopt.distributed.training.checkpoints import (
    CheckpointFolder,
    CheckpointManifest,
    check_workers,
    copy_in,
    scratch_directory,
)
from prefopt.distributed.training.denoisers import Denoisers
from prefopt.distributed.training.engine import learning_rate
from prefopt.distributed.training.job import MODEL, TrainingJob
from prefopt.distributed.training.records import record_line, step_record
from prefopt.distributed.training.segments import SegmentWriter
from prefopt.distributed.training.step import StepFailure, Trainer
from prefopt.errors import GuardError
from prefopt.models.export import export_full, export_lora

PROGRESS = "train-progress"
_ENGINE, _SHADOWS = "engine", "shadows"
_PROGRESS_SECONDS = 0.5


class TrainingRun:
    """A run on one worker. All workers call the same methods in the same order."""

    def __init__(
        self, job: TrainingJob, denoisers: Denoisers, averages: Averages, trainer: Trainer, reader: StepReader
    ) -> None:
        self._job = job
        self.models = denoisers
        self.averages = averages
        self.trainer = trainer
        self.reader = reader
        self._rank = dist.get_rank()
        self._folder = CheckpointFolder(job.work, job.fingerprint)
        self._segments: list[FileEntry] = []
        self._told = 0.0

    def run(self) -> list[str]:
        """Train to the end, from the newest checkpoint if there is one; returns the segments' paths.

        Raises GuardError if the figures of a step are not finite.
        """
        train = self._job.config.train
        done = self._resume()
        writer = SegmentWriter(self._job.work, done)
        for step in range(done, train.steps):
            lr = learning_rate(train.optimizer, step)
            try:
                outcome, values = self.trainer.step(self.reader.get(step, train.steps), lr)
            except StepFailure as failure:
                raise GuardError(
                    f"Training diverged at step {step + 1}: not finite: {failure}. Lower train.optimizer.lr, or"
                    " train.objective.beta, and run again."
                ) from None
            online = values["u_online"].numpy() if "u_online" in values else None
            if self._rank == 0:
                writer.add(record_line(step_record(step + 1, lr, outcome, values)), online)
            finished = step + 1
            self._tell(finished, train.steps)
            if finished % train.checkpoint_every == 0 or finished == train.steps:
                self._save(finished, writer)
        return [entry.path for entry in self._segments]

    def export(self) -> None:
        """Write the tuned model into the stage's directory, in the format of diffusers."""
        config = self._job.config
        weights = self._policy_weights()
        if self._rank:
            return
        with scratch_directory(self._job.work, self._rank) as scratch:
            directory = scratch / MODEL
            if config.train.method == "lora":
                export_lora(directory, _without_adapter_name(weights), config.train.lora)
            else:
                export_full(directory, config.model, weights)
            for path in sorted(p for p in directory.rglob("*") if p.is_file()):
                copy_in(path, self._job.output, f"{MODEL}/{path.relative_to(directory).as_posix()}")

    def _policy_weights(self) -> dict[str, Tensor]:
        engine, weights = self.models.engine, {}
        for name in engine.parameters:
            with engine.float32_values([name]) as values:
                if self._rank == 0:
                    weights[name] = values[0].detach().to("cpu", copy=True)
        return weights

    def _save(self, step: int, writer: SegmentWriter) -> None:
        if self._rank == 0:
            self._folder.clear(step)
            self._segments += writer.flush()
        dist.barrier()
        with scratch_directory(self._job.work, self._rank) as scratch:
            engine_files = self.models.engine.save(scratch / _ENGINE)
            mine = self._folder.publish(step, engine_files, _ENGINE)
            shadows = self.averages.state_dict()
            if shadows and (self._rank == 0 or self.averages.sharded):
                (scratch / _SHADOWS).mkdir()
                save_file(shadows, str(scratch / _SHADOWS / f"{self._rank:05d}.safetensors"))
                mine += self._folder.publish(step, scratch / _SHADOWS, _SHADOWS)
        files = _gather(mine)
        if self._rank == 0:
            judge = self.trainer.judge
            manifest = CheckpointManifest(
                step=step,
                fingerprint=self._job.fingerprint,
                workers=dist.get_world_size(),
                zero=self._job.config.train.zero,
                state=judge.state_dict() if judge else {},
                files=sorted(files, key=lambda entry: entry.path),
                segments=self._segments,
            )
            self._folder.commit(manifest, self._job.config.train.keep_checkpoints)
        dist.barrier()

    def _resume(self) -> int:
        found: list[CheckpointManifest | None] = [self._folder.newest() if self._rank == 0 else None]
        dist.broadcast_object_list(found, src=0)
        manifest = found[0]
        if manifest is None:
            return 0
        check_workers(manifest, dist.get_world_size(), self._job.config.train.zero)
        with self._folder.local_copy(manifest) as directory:
            self.models.engine.load(directory)
            self.averages.load_state_dict(self._load_shadows(directory))
        if self.trainer.judge:
            self.trainer.judge.load_state_dict(manifest.state)
        self._segments = list(manifest.segments)
        return manifest.step

    def _load_shadows(self, directory: Path) -> dict[str, Tensor]:
        part = self._rank if self.averages.sharded else 0
        path = directory / _SHADOWS / f"{part:05d}.safetensors"
        return load_file(str(path)) if path.exists() else {}

    def _tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._rank == 0 and (done == total or now - self._told > _PROGRESS_SECONDS):
            self._job.logs.write_bytes(PROGRESS, f"{done}".encode())
            self._told = now


def _gather(mine: Sequence[FileEntry]) -> list[FileEntry]:
    received: list[Sequence[FileEntry]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(received, list(mine))
    return [entry for entries in received for entry in entries]


def _without_adapter_name(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(".policy.weight", ".weight"): value for name, value in weights.items()}
