"""Saving checkpoints: a snapshot on the local disk at once, the way to storage while training goes on."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist

from prefopt.data.manifest import FileEntry
from prefopt.distributed.training.checkpoints import CheckpointFolder, CheckpointManifest, scratch_directory
from prefopt.distributed.training.job import TrainingJob
from prefopt.errors import StorageError

PATIENCE = 3600.0
"""Seconds that the first worker waits for the other workers' files."""
_SHORTEST, _LONGEST = 0.05, 2.0


class CheckpointSaver:
    """Saves the checkpoints of a run. All workers call the same methods in the same order.

    A background thread of each worker brings its files to storage and then writes `part-<rank>.json`; the first
    worker's waits for all parts of this save, writes the manifest, and drops old checkpoints. Threads talk through
    storage alone. An error of a thread is raised by the next call.
    """

    def __init__(self, job: TrainingJob, folder: CheckpointFolder, run: str, segments: list[FileEntry]) -> None:
        """`run` is drawn anew for each start of a run and the same on all workers; `segments` are those so far."""
        self._job, self._folder, self._run = job, folder, run
        self._segments = list(segments)
        self._rank, self._workers = dist.get_rank(), dist.get_world_size()
        self._saves = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        state: Mapping[str, Any],
        segments: Mapping[str, bytes],
        vouched: int | None = None,
    ) -> None:
        """Let `write` put this worker's files into a directory, and begin to store them.

        With `vouched`, the newest checkpoint up to that step is kept beyond the last ones. `state` and `segments`, new
        files by name, are the first worker's. StorageError if the previous save failed.
        """
        self.finish()
        dist.barrier()
        self._saves += 1
        attempt = f"{self._run}-{self._saves:04d}"
        with ExitStack() as stack:
            directory = stack.enter_context(scratch_directory(self._job.work, self._rank))
            write(directory)
            self._pending = self._thread.submit(
                self._store, step, attempt, directory, stack.pop_all(), dict(state), dict(segments), vouched
            )

    def finish(self) -> None:
        """Wait until the last save is stored; on the first worker, until it is committed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def continue_from(self, segments: Sequence[FileEntry]) -> None:
        """Go back to the segments of an earlier checkpoint. Only after `finish`."""
        self._segments = list(segments)

    @property
    def segments(self) -> list[FileEntry]:
        """Of the steps that are stored, on the first worker. Only to be read after `finish`."""
        return list(self._segments)

    def _store(
        self,
        step: int,
        attempt: str,
        directory: Path,
        scratch: ExitStack,
        state: dict[str, Any],
        segments: dict[str, bytes],
        vouched: int | None,
    ) -> None:
        place = self._folder.place(step, attempt)
        try:
            with scratch:
                entries = self._folder.publish(place, directory)
            self._folder.write_part(place, self._rank, entries)
            if self._rank == 0:
                self._segments += self._folder.write_segments(segments)
                self._commit(step, attempt, self._parts(place), state, vouched)
        except (StorageError, OSError) as error:
            raise StorageError(f"The checkpoint after {step} steps could not be stored. {error}") from error

    def _commit(
        self, step: int, attempt: str, files: list[FileEntry], state: dict[str, Any], vouched: int | None
    ) -> None:
        config = self._job.config
        manifest = CheckpointManifest(
            step=step,
            attempt=attempt,
            fingerprint=self._job.fingerprint,
            workers=self._workers,
            zero=config.train.zero,
            state=state,
            config=config.model_dump(mode="json"),
            files=sorted(files, key=lambda entry: entry.path),
            segments=self._segments,
        )
        self._folder.commit(manifest, config.train.keep_checkpoints, vouched)

    def _parts(self, place: str) -> list[FileEntry]:
        files: list[FileEntry] = []
        end, pause = time.monotonic() + PATIENCE, _SHORTEST
        for rank in range(self._workers):
            while (part := self._folder.read_part(place, rank)) is None:
                if time.monotonic() > end:
                    raise StorageError(f"Worker {rank} has not stored its files within {PATIENCE:g} s.")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            files += part
        return files
