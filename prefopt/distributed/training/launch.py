"""Launching a training job, from the driver, and telling how it goes."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefopt.config.unused import unused_options
from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.lenient import Lenient
from prefopt.distributed.training.live import LIVE, Live, read_live
from prefopt.distributed.training.notes import NoteReader
from prefopt.distributed.training.refusal import REFUSED
from prefopt.distributed.units import Progress

_POLL_SECONDS, _POLL_SECONDS_REMOTE = 1.0, 5.0
_LOG = logging.getLogger("prefopt.train")


def launch(job: TrainingJob, progress: Progress) -> list[str]:
    """Train a job on the engine that the config names; returns the paths of its segments in the work directory.

    On Ray a lost worker restarts all of them from the newest checkpoint, at most `max_failures` times. Raises
    GuardError if a guard stopped training, and whatever error of ours a worker raised.
    """
    train = job.config.train
    unused = unused_options(train)
    if unused:
        _LOG.warning(f"Set, but without effect: {', '.join(unused)}.")
    with _reported(job, progress):
        if job.config.cluster.engine == "process":
            from prefopt.distributed.training.in_process import fit
        else:
            from prefopt.distributed.training.on_ray import fit
        result = fit(job)
    if "refused" in result:
        raise result["refused"]
    segments: list[str] = result["segments"]
    return segments


@contextmanager
def _reported(job: TrainingJob, progress: Progress) -> Iterator[None]:
    total, stop = job.config.train.steps, threading.Event()
    notes, lenient = NoteReader(job.logs), Lenient("The progress of training")
    pause = _POLL_SECONDS if job.logs.local else _POLL_SECONDS_REMOTE

    def tell_notes() -> None:
        with lenient():
            for sentence in notes.new():
                _LOG.warning(sentence)

    def live() -> Live | None:
        with lenient():
            return read_live(job.logs)
        return None

    def poll() -> None:
        seen: Live | None = None
        while not stop.wait(pause):
            tell_notes()
            now = live()
            if now is not None and now != seen:
                progress(now.done, total, "steps", now.words())
                seen = now

    job.logs.delete(LIVE)
    job.logs.delete(REFUSED)
    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
        last = live()
        progress(total, total, "steps", last.words() if last else "")
    finally:
        stop.set()
        thread.join()
        tell_notes()
