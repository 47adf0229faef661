"""Sentences that workers have for the user: they leave them below logs/, and the driver passes them on."""

from collections.abc import Sequence

from prefopt.data.storage import Storage
from prefopt.distributed.training.lenient import Lenient

_FOLDER = "notes"


def leave_notes(logs: Storage, name: str, sentences: Sequence[str]) -> None:
    """Leave sentences under a name that nobody else uses. If they cannot be written, the worker's own log has them."""
    if not sentences:
        return
    with Lenient(f"A note ({' '.join(sentences)})")():
        logs.write_bytes(f"{_FOLDER}/{name}.txt", "".join(f"{sentence}\n" for sentence in sentences).encode())


class NoteReader:
    """Gives the sentences that are left from now on, each once."""

    def __init__(self, logs: Storage) -> None:
        self._logs = logs
        self._seen = set(logs.files(_FOLDER))

    def new(self) -> list[str]:
        """Sentences since the last call."""
        files = [file for file in self._logs.files(_FOLDER) if file not in self._seen]
        sentences = [line for file in files for line in self._logs.read_bytes(file).decode().splitlines()]
        self._seen |= set(files)
        return sentences
