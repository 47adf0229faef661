"""A lock on a registry, so that retraining runs do not overlap.

The lock is one file, `lock.json`, that is created or replaced only if it is what the writer has read: of two that take
it at once one wins. Its holder renews it every quarter of its time to live (ttl). A released lock is a file that says
so; the file is never deleted, since not every object store deletes conditionally.

Clocks of two machines may differ, so no lock is taken over because its time looks old. Whoever finds a lock that looks
older than its ttl watches it for that ttl by a monotonic clock of its own, and takes it over only if it was not renewed
in between. One that looks younger is refused at once, which a wrong clock can make too cautious for a while and never
unsafe; one that lies further in the future than its ttl is watched as well. A holder of the same machine and container
whose process has ended is not waited for.

A holder that was suspended can find that it lost the lock. So `check` asks the store: call it before a promotion.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefopt.data.storage import Storage
from prefopt.errors import InputError, PrefoptError
from prefopt.registry.processes import Process
from prefopt.registry.records import time_of
from prefopt.registry.registry import ConflictError

LOCK = "lock.json"
TTL = timedelta(minutes=15)
_TRIES = 5
_LOOKS = 20
"""While watching, per ttl."""
_logger = logging.getLogger(__name__)


class LockedError(PrefoptError):
    """Another retraining run is at work."""


@dataclass(frozen=True)
class Times:
    """What tells the time."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _Holder(BaseModel):
    model_config = ConfigDict(frozen=True)

    owner: str
    process: Process
    token: str
    since: str
    ttl: float
    """Seconds."""
    beat: int = 0
    renewed: str
    released: bool = False

    def encoded(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    def begun(self, now: datetime) -> "_Holder":
        return self.model_copy(update={"since": _iso(now), "renewed": _iso(now)})

    def looks_fresh(self, now: datetime) -> bool:
        return abs((now - time_of(self.renewed)).total_seconds()) < self.ttl

    def __str__(self) -> str:
        return f"{self.owner} (process {self.process.pid} on {self.process.host})"


class RetrainingLock:
    """A lock that is held. Renewed by a thread of its own until it is released."""

    def __init__(self, storage: Storage, mine: _Holder, tag: str, times: Times) -> None:
        self._storage, self._mine, self._tag, self._times = storage, mine, tag, times
        self._lost = False
        self._turn = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew_again, name="retraining lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Renew the lock now.

        Raises ConflictError if somebody else took it; StorageError or InputError if nobody can tell.
        """
        if not self._write(beat=self._mine.beat + 1):
            found = self._storage.read_tagged(LOCK)
            other = f"{_holder(found[0], self._storage)} took it" if found else "its file was removed"
            raise ConflictError(
                f"This run lost the lock of the registry {self._storage.uri}: {other}. It was suspended, or cut off"
                " from the store, for too long. Nothing was promoted: its work is kept, run it again later."
            )

    def release(self) -> None:
        """Let others have it. A lock that was lost is left to who has it."""
        self._end.set()
        self._thread.join()
        try:
            if not self._write(released=True):
                _logger.warning("%s: the lock was lost before it was released.", self._storage.uri)
        except PrefoptError as error:
            _logger.warning("The lock could not be released and ends by itself in %g s: %s", self._mine.ttl, error)

    def _renew_again(self) -> None:
        while not self._end.wait(self._mine.ttl / 4.0):
            try:
                if not self._write(beat=self._mine.beat + 1):
                    _logger.warning("%s: somebody else took the lock of this run.", self._storage.uri)
                    return
            except PrefoptError as error:
                _logger.warning("The lock could not be renewed: %s", error)

    def _write(self, **changes: Any) -> bool:
        """Whether the lock is still this run's, and was written."""
        with self._turn:
            for _ in range(_TRIES):
                if self._lost:
                    return False
                state = self._mine.model_copy(update={**changes, "renewed": _iso(self._times.now())})
                tag = self._storage.replace(LOCK, state.encoded(), self._tag)
                if tag is not None:
                    self._mine, self._tag = state, tag
                    return True
                # An earlier write may have arrived although its answer did not.
                found = self._storage.read_tagged(LOCK)
                self._lost = found is None or _holder(found[0], self._storage).token != self._mine.token
                self._tag = found[1] if found else self._tag
        return False


@contextmanager
def retraining_lock(
    uri: str, *, owner: str, ttl: timedelta = TTL, times: Times | None = None
) -> Iterator[RetrainingLock]:
    """Hold the lock of the registry at `uri` for a block; `owner` says in words who does.

    Raises LockedError if another run holds it, InputError if its file is damaged, StorageError if the store fails. To
    take over from a holder that died on another machine takes its ttl of watching, which the log says.
    """
    assert ttl > timedelta(0)
    storage, times = Storage(uri), times or Times()
    at = _iso(times.now())
    mine = _Holder(
        owner=owner, process=Process.own(), token=secrets.token_hex(16), since=at, renewed=at, ttl=ttl.total_seconds()
    )
    lock = RetrainingLock(storage, *_take(storage, mine, times), times)
    try:
        yield lock
    finally:
        lock.release()


def _take(storage: Storage, mine: _Holder, times: Times) -> tuple[_Holder, str]:
    """Make the lock this run's: what was written, and its tag."""
    watched: str | None = None
    for _ in range(_TRIES):
        found = storage.read_tagged(LOCK)
        if found is None:
            storage.create(LOCK, mine.begun(times.now()).encoded())
            continue
        other, tag = _holder(found[0], storage), found[1]
        if other.token == mine.token:
            return other, tag
        if not other.released and not other.process.is_gone:
            if other.token == watched or other.looks_fresh(times.now()):
                raise _locked(storage, other)
            watched = other.token
            if not _rests(storage, tag, other, times):
                continue
        state = mine.begun(times.now())
        taken = storage.replace(LOCK, state.encoded(), tag)
        if taken is not None:
            return state, taken
    raise LockedError(f"{storage.uri}: other runs took the lock again and again. Run this one again later.")


def _rests(storage: Storage, tag: str, other: _Holder, times: Times) -> bool:
    """Whether the lock is not renewed for its ttl, watched by a clock of our own."""
    _logger.warning("%s: %s holds the lock; watching for %g s whether it lives.", storage.uri, other, other.ttl)
    end = times.monotonic() + other.ttl
    while times.monotonic() < end:
        times.sleep(other.ttl / _LOOKS)
        found = storage.read_tagged(LOCK)
        if found is None or found[1] != tag:
            return False
    return True


def _locked(storage: Storage, other: _Holder) -> LockedError:
    return LockedError(
        f"{storage.uri}: {other} has held the lock since {other.since} and renewed it at {other.renewed}. Nothing was"
        f" changed. Run this again when it is done; if it died, try {other.ttl:g} s after its last renewal."
    )


def _holder(data: bytes, storage: Storage) -> _Holder:
    try:
        found = _Holder.model_validate_json(data)
        time_of(found.renewed)
        return found
    except (ValidationError, ValueError):
        raise InputError(
            f"{storage.uri}/{LOCK} is damaged. See that no retraining runs, and remove it; nothing was changed."
        ) from None


def _iso(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds")
