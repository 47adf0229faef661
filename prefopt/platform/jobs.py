"""A stage as a job: what runs elsewhere, under which name, and how its failure is told."""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prefopt.config import RunConfig, dump_config
from prefopt.data.ids import digest
from prefopt.data.storage import Storage
from prefopt.errors import PrefoptError

TOLD_LINES = 20
"""Of a job's log, in the error that tells its failure."""


@dataclass(frozen=True)
class Job:
    """A prefopt command that runs elsewhere. The name decides whether two submissions are the same job."""

    name: str
    """A DNS label, deterministic: a second submission finds the first one by it."""
    arguments: tuple[str, ...]
    """Of the prefopt command: stage, config, options. Places in them are ones that the cluster can read."""
    labels: Mapping[str, str] = field(default_factory=dict)


class JobError(PrefoptError):
    """A job failed: the message ends with the last lines of its log, the exit code is the job's own."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Submitter(Protocol):
    """Where jobs run."""

    def run(self, job: Job, tell: Callable[[str], None]) -> None:
        """Run it to its end, or watch the one of that name which is there already; every line of its log goes to
        `tell`. Raises JobError if it fails, or cannot be submitted."""


class Tail:
    """Passes lines on, and keeps the last ones for an error."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lines: deque[str] = deque(maxlen=TOLD_LINES)

    def __call__(self, line: str) -> None:
        self._lines.append(line)
        self._tell(line)

    @property
    def text(self) -> str:
        """The last lines."""
        return "\n".join(self._lines).strip()


def job_name(stage: str, key: str, run_dir: str) -> str:
    """The name of a stage's job: it follows from what the stage will do (its key), and where."""
    return f"prefopt-{stage}-{digest(key, run_dir)[:12]}"


def job_arguments(command: str, config: RunConfig, run_dir: str) -> tuple[str, ...]:
    """Of a command that a job runs, and the config it reads: whatever Ray it finds itself in is the one to use."""
    cluster = config.cluster.model_copy(update={"address": None})
    text = dump_config(config.model_copy(update={"cluster": cluster}))
    return (command, place_config(text, run_dir), "--run-dir", run_dir)


def place_config(text: str, run_dir: str) -> str:
    """Put a config where the job reads it, in the run directory; its path or URI. Equal texts are one file."""
    storage = Storage(run_dir)
    name = f"configs/{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    storage.write_bytes(name, text.encode())
    return storage.place(name)
