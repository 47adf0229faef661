"""Finished stretches of a run: figures of their steps, verdicts, and u of their visits, each written once and whole."""

import io
from collections.abc import Sequence

import numpy as np

from prefopt.data.storage import Storage

STEPS, ONLINE_U, HEALTH = "steps", "u", "health"


class SegmentWriter:
    """Collects figures between checkpoints on the first worker."""

    def __init__(self, done: int) -> None:
        self._start = done
        self._lines: list[str] = []
        self._u: list[np.ndarray] = []
        self._health: list[str] = []

    def add(self, line: str, online_u: np.ndarray | None, health: str | None = None) -> None:
        """The next step's line, its visits' u in the order of the plan, and its verdict's line if it has one."""
        self._lines.append(line)
        if health is not None:
            self._health.append(health)
        if online_u is not None:
            self._u.append(online_u)

    def note(self, health: str) -> None:
        """A verdict's line that belongs to no step of this stretch."""
        self._health.append(health)

    def take(self) -> dict[str, bytes]:
        """What was added since the last call: the content of new files by name."""
        if not self._lines:
            return {}
        start, end = self._start, self._start + len(self._lines)
        files = {segment_name(STEPS, start, end): "".join(self._lines).encode()}
        if self._u:
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(self._u), allow_pickle=False)
            files[segment_name(ONLINE_U, start, end)] = buffer.getvalue()
        if self._health:
            files[segment_name(HEALTH, start, end)] = "".join(self._health).encode()
        self._start, self._lines, self._u, self._health = end, [], [], []
        return files


def segment_name(kind: str, start: int, end: int) -> str:
    """Steps start + 1 to end."""
    return f"segments/{kind}-{start:08d}-{end:08d}" + (".npy" if kind == ONLINE_U else ".jsonl")


def read_steps(storage: Storage, files: Sequence[str]) -> bytes:
    """The lines of a run from its segments."""
    return b"".join(storage.read_bytes(file) for file in _of(STEPS, files))


def read_verdicts(storage: Storage, files: Sequence[str]) -> bytes:
    """The lines of health.jsonl from a run's segments."""
    return b"".join(storage.read_bytes(file) for file in _of(HEALTH, files))


def read_online_u(storage: Storage, files: Sequence[str]) -> np.ndarray | None:
    """Online u of every visit in the order of the plan; None if the objective computed none."""
    parts = [np.load(io.BytesIO(storage.read_bytes(f)), allow_pickle=False) for f in _of(ONLINE_U, files)]
    return np.concatenate(parts) if parts else None


def _of(kind: str, files: Sequence[str]) -> list[str]:
    return sorted(file for file in files if file.startswith(f"segments/{kind}-"))
