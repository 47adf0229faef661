"""What steps leave behind besides weights: lines of figures and verdicts, trackers, times, stacks of stalled steps."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from prefopt.distributed.training.engine import StepOutcome
from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.records import flat_figures, record_line, step_record
from prefopt.distributed.training.segments import SegmentWriter
from prefopt.distributed.training.step import PairValues
from prefopt.distributed.training.trackers import open_trackers
from prefopt.distributed.training.watch import StallWatch, Stopwatch, TimingLog
from prefopt.health.monitor import Observation


class Recorder:
    """Records the steps of a run on one worker. Only the first worker's is written, but for stacks."""

    def __init__(self, job: TrainingJob, rank: int, done: int) -> None:
        self._train = job.config.train
        self._first = rank == 0
        self._watch = StallWatch(job.logs, rank, self._train.stall_factor)
        self._stopwatch = Stopwatch()
        self._speed: dict[str, float] = {}
        self._segments = SegmentWriter(done)
        self._trackers = open_trackers(job.config, job.logs, done, job.fingerprint) if self._first else None
        self._timing = TimingLog(job.logs, done) if self._first else None
        self._led_back: list[tuple[int, str]] = []
        """Steps that the run went back to, with the verdict's line."""
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._trackers:
            self._open.callback(self._trackers.close)
        self._open.enter_context(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Watch and time a step, counted from 1."""
        with self._watch.step(step), self._stopwatch.step():
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time the part of a step in which data are waited for."""
        with self._stopwatch.waiting():
            yield

    def add(
        self,
        step: int,
        lr: float,
        outcome: StepOutcome,
        values: PairValues,
        seen: Observation,
        others: Mapping[str, Any],
    ) -> None:
        """The figures of a step; `others` are those that are not there in every step."""
        if not self._first:
            return
        record = step_record(step, lr, outcome, values, {**seen.figures, **others})
        online = values["u_online"].numpy() if "u_online" in values else None
        self._segments.add(record_line(record), online, record_line(seen.line) if seen.line else None)
        if self._trackers:
            self._trackers.log(step, flat_figures(record))

    def rolled_back(self, done: int, line: Mapping[str, Any] | None) -> None:
        """Forget the steps after `done`; the verdicts that led back to there stay."""
        self._segments = SegmentWriter(done)
        if self._trackers:
            self._trackers.rolled_back(done)
        if line and self._first:
            self._led_back.append((done, record_line(dict(line))))
        for back_at, verdict in self._led_back:
            if back_at >= done:
                self._segments.note(verdict)

    def speed(self) -> dict[str, float]:
        """Times of the last steps."""
        return self._stopwatch.figures(self._train.global_batch) or self._speed

    def take(self, step: int) -> dict[str, bytes]:
        """New segments for the checkpoint after a step; trackers and times are saved with it."""
        if self._trackers and self._timing:
            self._speed = self._stopwatch.take(self._train.global_batch)
            self._timing.add(step, self._speed)
            self._timing.write()
            if self._speed:
                self._trackers.log(step, self._speed)
            self._trackers.save()
        return self._segments.take()
