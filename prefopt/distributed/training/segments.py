"""Finished stretches of a run: figures of their steps and u of their visits, each written once and whole."""

import io
from collections.abc import Sequence

import numpy as np

from prefopt.data.manifest import FileEntry, describe_file
from prefopt.data.storage import Storage

STEPS, ONLINE_U = "steps", "u"


class SegmentWriter:
    """Collects figures between checkpoints on the first worker."""

    def __init__(self, storage: Storage, done: int) -> None:
        self._storage = storage
        self._start = done
        self._lines: list[str] = []
        self._u: list[np.ndarray] = []

    def add(self, line: str, online_u: np.ndarray | None) -> None:
        """The next step's line, and its visits' u in the order of the plan."""
        self._lines.append(line)
        if online_u is not None:
            self._u.append(online_u)

    def flush(self) -> list[FileEntry]:
        """Write what was added since the last flush; returns the new files."""
        if not self._lines:
            return []
        end = self._start + len(self._lines)
        files = [segment_name(STEPS, self._start, end)]
        self._storage.write_bytes(files[0], "".join(self._lines).encode())
        if self._u:
            files.append(segment_name(ONLINE_U, self._start, end))
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(self._u), allow_pickle=False)
            self._storage.write_bytes(files[1], buffer.getvalue())
        self._start, self._lines, self._u = end, [], []
        return [describe_file(self._storage, file) for file in files]


def segment_name(kind: str, start: int, end: int) -> str:
    """Steps start + 1 to end."""
    return f"segments/{kind}-{start:08d}-{end:08d}" + (".jsonl" if kind == STEPS else ".npy")


def read_steps(storage: Storage, files: Sequence[str]) -> bytes:
    """The lines of a run from its segments."""
    return b"".join(storage.read_bytes(file) for file in _of(STEPS, files))


def read_online_u(storage: Storage, files: Sequence[str]) -> np.ndarray | None:
    """Online u of every visit in the order of the plan; None if the objective computed none."""
    parts = [np.load(io.BytesIO(storage.read_bytes(f)), allow_pickle=False) for f in _of(ONLINE_U, files)]
    return np.concatenate(parts) if parts else None


def _of(kind: str, files: Sequence[str]) -> list[str]:
    return sorted(file for file in files if file.startswith(f"segments/{kind}-"))
