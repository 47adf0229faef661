"""The loop of a training worker: resume, step, checkpoint, and at the end the model."""

import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from prefopt.distributed.training.averages import Averages
from prefopt.distributed.training.batches import StepReader
from prefopt.distributed.training.checkpoints import (
    SCRATCH,
    CheckpointFolder,
    CheckpointManifest,
    copy_in,
    scratch_directory,
)
from prefopt.distributed.training.denoisers import Denoisers
from prefopt.distributed.training.engine import learning_rate
from prefopt.distributed.training.job import MODEL, TrainingJob
from prefopt.distributed.training.live import LiveWriter
from prefopt.distributed.training.notes import leave_notes
from prefopt.distributed.training.paired import PairedDrawing, paired_figures, share_of_wins
from prefopt.distributed.training.recorder import Recorder
from prefopt.distributed.training.records import pair_arrays
from prefopt.distributed.training.refresh import Refresh
from prefopt.distributed.training.refusal import AgreedError
from prefopt.distributed.training.restoring import SHADOWS, restored_files
from prefopt.distributed.training.saving import CheckpointSaver
from prefopt.distributed.training.step import Trainer
from prefopt.errors import GuardError
from prefopt.health.guard import Decision
from prefopt.health.monitor import HealthMonitor, Observation
from prefopt.health.verdict import UNHEALTHY
from prefopt.models.export import export_full, export_lora
from prefopt.models.loading import MODEL_DTYPES

_TRAINER, _HEALTH, _PAIRED, _REFRESH = "trainer", "health", "start_scores", "refresh"


class TrainingRun:
    """A run on one worker. All workers call the same methods in the same order."""

    def __init__(
        self,
        job: TrainingJob,
        denoisers: Denoisers,
        averages: Averages,
        trainer: Trainer,
        reader: StepReader,
        num_timesteps: int,
        paired: PairedDrawing | None = None,
        refresh: Refresh | None = None,
    ) -> None:
        self._job = job
        self.models = denoisers
        self.averages = averages
        self.trainer = trainer
        self.reader = reader
        self.health = HealthMonitor(job.config.train, num_timesteps)
        self._paired, self._refresh = paired, refresh
        self._start_scores: list[float] = []
        """Rewards of the start's images, where the policy's are compared with them."""
        self._rank = dist.get_rank()
        self._folder = CheckpointFolder(job.work, job.fingerprint)
        self._saver: CheckpointSaver
        self._live = LiveWriter(job.logs)
        self._notes = 0

    def run(self) -> list[str]:
        """Train to the end, from the newest checkpoint if there is one; returns the segments' paths.

        Raises AgreedError, with a GuardError, if a guard stops it.
        """
        train = self._job.config.train
        done = self._resume()
        if self._paired and done == 0:
            self._start_scores = self._scores_of_start(self._paired)
        with Recorder(self._job, self._rank, done) as recorder:
            if done == 0 and train.guard.action == "roll_back":
                self._save(0, recorder)
            while done < train.steps:
                seen = self._one_step(done, recorder)
                done += 1
                self._tell(done, seen, recorder)
                if seen.decision.action == "stop":
                    self._stop(done, seen.decision, recorder)
                if seen.decision.action == "roll_back":
                    done = self._roll_back(done, seen, recorder)
                elif done % train.checkpoint_every == 0 or done == train.steps:
                    self._save(done, recorder)
            self._saver.finish()
        return [entry.path for entry in self._saver.segments]

    def _scores_of_start(self, paired: PairedDrawing) -> list[float]:
        scores = paired.scores()
        if any(math.isnan(score) for score in scores):
            raise AgreedError(
                GuardError(
                    "The model that training starts from draws images that are not finite numbers, so none can be"
                    " compared with them. Use train.precision bf16 or fp32, or set model.vae to one that bears"
                    " fp16."
                )
            )
        return scores

    def _one_step(self, done: int, recorder: Recorder) -> Observation:
        train = self._job.config.train
        staleness = self._refresh.before(done) if self._refresh else {}
        lr = self.health.rate * learning_rate(train.optimizer, done)
        with recorder.step(done + 1):
            with recorder.waiting():
                batches = self.reader.get(done, train.steps)
            outcome, values = self.trainer.step(batches, lr)
        wins = self._evaluate(done + 1)
        seen = self.health.observe(
            done + 1, applied=outcome.applied, grad_norm=outcome.grad_norm, values=pair_arrays(values)
        )
        recorder.add(done + 1, lr, outcome, values, seen, {**staleness, **wins})
        return seen

    def _evaluate(self, done: int) -> dict[str, float]:
        """The paired evaluation after a step, if one is due, before the step is judged; its figures for steps.jsonl."""
        config = self._job.config.train.health.evaluation
        if not self._paired or not config or done % config.every:
            return {}
        self.reader.settle()
        scores = self._paired.scores()
        wins = share_of_wins(scores, self._start_scores)
        self.health.evaluated(done, wins, sum(math.isnan(score) for score in scores))
        return paired_figures(wins)

    def _stop(self, done: int, decision: Decision, recorder: Recorder) -> None:
        self._save(done, recorder)
        self._saver.finish()
        raise AgreedError(GuardError(decision.reason))

    def _roll_back(self, before: int, seen: Observation, recorder: Recorder) -> int:
        """Go back to the newest checkpoint that a good verdict vouches for; returns the steps that are done then."""
        self._saver.finish()
        found: list[Any] = [None, None]
        if self._rank == 0:
            found = list(self._folder.newest(seen.decision.not_after))
        dist.broadcast_object_list(found, src=0)
        manifest, passed_over = found
        if manifest is None:
            raise AgreedError(GuardError(_nowhere_to_go(seen, passed_over)))
        self._restore(manifest, rolled_back=True)
        self._saver.continue_from(manifest.segments)
        recorder.rolled_back(manifest.step, seen.line)
        self._note(before, f"the guard rolled back to the checkpoint after {manifest.step} steps; {self._rate()}")
        done: int = manifest.step
        return done

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
                dtype = MODEL_DTYPES[config.train.precision]
                export_full(directory, config.model, self._job.weights, weights, dtype)
            for path in sorted(p for p in directory.rglob("*") if p.is_file()):
                copy_in(path, self._job.output, f"{MODEL}/{path.relative_to(directory).as_posix()}")

    def _policy_weights(self) -> dict[str, Tensor]:
        engine, weights = self.models.engine, {}
        for name in engine.parameters:
            with engine.float32_values([name]) as values:
                if self._rank == 0:
                    weights[name] = values[0].detach().to("cpu", copy=True)
        return weights

    def _save(self, step: int, recorder: Recorder) -> None:
        self._saver.save(step, self._write_files, self._state(), recorder.take(step), self.health.vouched)

    def _write_files(self, directory: Path) -> None:
        self.models.engine.save(directory)
        self.averages.save(directory / SHADOWS)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights, optimizer and averages: plain JSON, the same on all workers."""
        return {
            _TRAINER: self.trainer.state_dict(),
            _HEALTH: self.health.state_dict(),
            _PAIRED: self._start_scores,
            _REFRESH: self._refresh.state_dict() if self._refresh else None,
        }

    def _resume(self) -> int:
        """Continue from the newest whole checkpoint, if there is one; returns the steps that are done."""
        found: list[Any] = [None, None]
        if self._rank == 0:
            self._job.work.delete(SCRATCH)
            manifest, passed_over = self._folder.newest()
            self._folder.clear_unfinished()
            run = uuid.uuid4().hex[:12]
            if passed_over:
                how = f"goes on after {manifest.step} steps" if manifest else "starts anew"
                leave_notes(self._job.logs, run, [*passed_over, f"Training {how}."])
            found = [manifest, run]
        dist.broadcast_object_list(found, src=0)
        manifest, run = found
        segments = list(manifest.segments) if manifest else []
        self._saver = CheckpointSaver(self._job, self._folder, run, segments)
        if manifest is None:
            return 0
        self._restore(manifest)
        done: int = manifest.step
        return done

    def _restore(self, manifest: CheckpointManifest, *, rolled_back: bool = False) -> None:
        with restored_files(self._folder, manifest, self._job.work) as files:
            self.models.engine.load(files.engine, universal=files.universal)
            self.averages.load(files.shadows)
        self.trainer.load_state_dict(manifest.state[_TRAINER])
        if self._refresh:
            self._refresh.load_state_dict(manifest.state[_REFRESH])
        self._start_scores = manifest.state[_PAIRED]
        (self.health.roll_back if rolled_back else self.health.load_state_dict)(manifest.state[_HEALTH])

    def _tell(self, done: int, seen: Observation, recorder: Recorder) -> None:
        if self._rank:
            return
        last = done == self._job.config.train.steps
        self._live.write(done, self.health.verdict, recorder.speed(), last=last)
        if seen.changed and seen.verdict and seen.verdict.name in UNHEALTHY:
            self._note(done, f"{seen.verdict.name}. {seen.verdict.sentence} {seen.verdict.advice}")
        if seen.decision.action == "lower_rate":
            self._note(done, f"the guard goes on; {self._rate()}")

    def _rate(self) -> str:
        return f"the learning rate is {self.health.rate:g} times what the config says from here on."

    def _note(self, step: int, sentence: str) -> None:
        """Tell the user what happened at a step."""
        if self._rank == 0:
            self._notes += 1
            leave_notes(
                self._job.logs, f"step-{step}-{self._notes:04d}-{uuid.uuid4().hex[:6]}", [f"Step {step}: {sentence}"]
            )


def _nowhere_to_go(seen: Observation, passed_over: Sequence[str]) -> str:
    assert seen.verdict is not None
    reasons = "".join(f" {reason}" for reason in passed_over)
    return (
        f"{seen.verdict.name}: {seen.verdict.sentence} The guard would roll back to a checkpoint up to step"
        f" {seen.decision.not_after}, but none is whole.{reasons} {seen.verdict.advice}"
    )


def _without_adapter_name(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(".policy.weight", ".weight"): value for name, value in weights.items()}
