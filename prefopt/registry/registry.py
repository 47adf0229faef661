"""The history of champions in a directory or below an s3:// prefix: numbered records, each written once and whole.

Two jobs that decide at once both try to write the same number; one finds it taken and says so. That is all the locking
there is: a record is created only if no file of its name is there, by a hard link on a local disk and by a conditional
put (If-None-Match) on an object store.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from prefopt.data.storage import Storage
from prefopt.errors import InputError, PrefoptError
from prefopt.registry.champion import check_champion
from prefopt.registry.records import Action, Champion, Record, Watermark, read_record

_RECORDS = "records"


class ConflictError(PrefoptError):
    """Somebody else wrote to the registry meanwhile. Nothing was lost: look again, and decide again."""


class Registry:
    """Reads and extends a history."""

    def __init__(self, uri: str) -> None:
        self._storage = Storage(uri)

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._storage.uri

    def history(self) -> list[Record]:
        """All records, the oldest first.

        Raises InputError if one is damaged or missing, or if one was changed after the next was written.
        """
        found: list[Record] = []
        for number, name in enumerate(self._storage.files(_RECORDS), start=1):
            if name != _name(number):
                raise InputError(
                    f"{self.uri}: expected {_name(number)} and found {name}: a record is missing. Put it back from a"
                    " backup; nothing was changed."
                )
            record = read_record(self._storage.read_bytes(name), f"{self.uri}/{name}")
            before = found[-1].sha256 if found else None
            if (record.number, record.previous) != (number, before):
                raise InputError(
                    f"{self.uri}/{name} does not follow the record before it: one of the two was changed after it was"
                    " written. Put both back from a backup; nothing was changed."
                )
            found.append(record)
        return found

    def champion(self) -> Champion | None:
        """The champion now; None before the first promotion. Raises InputError as `history`."""
        return current(self.history())

    def add(
        self,
        history: Sequence[Record],
        action: Action,
        model: Champion | None,
        *,
        by: str,
        reason: str = "",
        decision: str | None = None,
        seen: Watermark | None = None,
    ) -> Record:
        """Add a record after `history`, as it was read when the decision was made.

        Raises ConflictError if another record was added meanwhile: then nothing is written.
        """
        record = Record(
            number=len(history) + 1,
            action=action,
            model=model,
            by=by,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            decision=decision,
            seen=seen,
            previous=history[-1].sha256 if history else None,
        )
        name = _name(record.number)
        if not self._storage.create(name, record.encoded()):
            other = read_record(self._storage.read_bytes(name), f"{self.uri}/{name}")
            raise ConflictError(
                f"{self.uri}: {other.by} wrote a {other.action} at {other.at}, after this decision was begun. Nothing"
                " was changed: look at the new champion (prefopt registry show) and decide again."
            )
        return record

    def rollback(
        self, number: int | None, *, by: str, reason: str, check: Callable[[Champion, str], object] = check_champion
    ) -> Record:
        """Make an earlier champion the champion again: that of record `number`, by default the one before the present.

        Before anything is written, `check` proves that its files are byte for byte what was promoted. Raises InputError
        if they are not, if there is no such record or no earlier champion; ConflictError as `add`.
        """
        history = self.history()
        model = self._earlier(history) if number is None else self._chosen(history, number)
        check(model, "The former champion")
        return self.add(history, "rollback", model, by=by, reason=reason)

    def _chosen(self, history: Sequence[Record], number: int) -> Champion:
        record = history[number - 1] if 1 <= number <= len(history) else None
        if record is None or record.model is None or not record.chooses:
            raise InputError(f"{self.uri}: record {number} chose no champion. prefopt registry list shows which did.")
        return record.model

    def _earlier(self, history: Sequence[Record]) -> Champion:
        reign = succession(history)
        if len(reign) < 2:
            raise InputError(f"{self.uri}: there is no earlier champion to go back to.")
        return reign[-2]


def current(history: Sequence[Record]) -> Champion | None:
    """The champion at the end of a history."""
    return next((one.model for one in reversed(history) if one.chooses), None)


def succession(history: Sequence[Record]) -> list[Champion]:
    """The champions that led to the present one, which is the last: what was rolled back is left out.

    After promotions of A, B and C and a rollback to B these are A and B, so that one more rollback leads to A.
    """
    line: list[Champion] = []
    for record in history:
        model = record.model
        if model is None or not record.chooses:
            continue
        if record.action == "rollback" and model in line:
            while line[-1] != model:
                line.pop()
        elif not line or line[-1] != model:
            line.append(model)
    return line


def _name(number: int) -> str:
    return f"{_RECORDS}/{number:08d}.json"
