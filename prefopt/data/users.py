"""Which runs use a store: a note for each, so that nothing is erased or kept behind the back of one."""

import json
import platform
from dataclasses import dataclass

from prefopt.data.ids import digest
from prefopt.data.storage import Storage
from prefopt.errors import InputError

USERS = "runs"


@dataclass(frozen=True)
class User:
    """A run directory that worked with a store."""

    note: str
    """Where this is noted in the store."""
    run: str
    """The directory, or an s3:// prefix."""
    host: str
    """The machine on which a local directory lies."""

    @property
    def here(self) -> bool:
        """Whether this machine can tell if the run is there."""
        return "://" in self.run or self.host == platform.node()


def note_user(store: Storage, run: Storage) -> None:
    """Note that a run works with a store."""
    host = platform.node() if run.local else ""
    note = f"{USERS}/{digest(host, run.place())}.json"
    if not store.exists(note):
        store.write_bytes(note, json.dumps({"run": run.place(), "host": host}).encode())


def users(store: Storage) -> list[User]:
    """All runs that worked with a store, whether they are still there or not. InputError for a damaged note."""
    found = []
    for note in store.files(USERS):
        try:
            told = json.loads(store.read_bytes(note))
            found.append(User(note, str(told["run"]), str(told["host"])))
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{store.uri}/{note} is damaged: remove it, and name the run that it was about.") from None
    return found
