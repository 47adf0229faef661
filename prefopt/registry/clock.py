"""Times in the registry that lie in the future: then a clock is wrong, and nothing may be decided by it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefopt.errors import InputError
from prefopt.registry.records import Record, time_of

TOLERANCE = timedelta(hours=1)


def check_clock(history: Sequence[Record], now: datetime, tolerance: timedelta = TOLERANCE) -> None:
    """Raise InputError if the last record, or the newest vote of the last watermark, is later than `now` + `tolerance`.

    Earlier records do not matter: their order is by number, and a later record has put them right. `now` has a zone.
    """
    if not history:
        return
    last = history[-1]
    if time_of(last.at) - now > tolerance:
        raise InputError(
            f"Record {last.number} of the registry ({last.action} by {last.by}) was written at {last.at}, and it is"
            f" {_shown(now)} here: the clock of this machine or of the one that wrote it is wrong. Set the clock"
            " right. If it was the other one, add a record with the right time: promote, or roll back to, the model"
            " that shall be the champion. Nothing was changed."
        )
    marked = next((one for one in reversed(history) if one.seen), None)
    if marked and marked.seen and marked.seen.newest and time_of(marked.seen.newest) - now > tolerance:
        raise InputError(
            f"Record {marked.number} of the registry (written at {marked.at}) has read votes up to"
            f" {marked.seen.newest}, and it is {_shown(now)} here: the clock of this machine or of the one that wrote"
            " those votes is wrong. Set this clock right, or mend the votes' times in their source; then, if that"
            " record is the last one, move its file away, so that the night is done again. Nothing was changed."
        )


def _shown(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds")
