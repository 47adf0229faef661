"""What the registry's history is made of."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from prefopt.errors import InputError

SCHEMA_VERSION: Literal[1] = 1
Action = Literal["promote", "rollback", "propose", "reject", "hold", "nothing"]
CHAMPION_ACTIONS: frozenset[Action] = frozenset({"promote", "rollback"})
"""Actions that choose the champion; the others leave it as it is."""


def time_of(text: str) -> datetime:
    """A time as records hold it. ValueError unless it is ISO 8601 and in UTC."""
    time = datetime.fromisoformat(text)
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"{text} is not a time in UTC")
    return time.astimezone(UTC)


def _utc(text: str) -> str:
    time_of(text)
    return text


_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Utc = Annotated[str, AfterValidator(_utc)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Champion(_Strict):
    """A tuned model: the run that made it, and what proves that it is still the same."""

    run: str
    """The run's directory or s3:// prefix."""
    train: _Sha256
    """The key of its train stage."""
    digest: _Sha256
    """Of its weights."""


class Watermark(_Strict):
    """Which data a night had read."""

    ingest: _Sha256
    """The key of its ingest stage."""
    votes: Annotated[int, Field(ge=0)]
    newest: _Utc | None = None
    """ISO 8601 in UTC, of the newest vote; null where votes have no times."""


class Record(_Strict):
    """One event. Its number, not its time, says where it stands: clocks of machines differ."""

    schema_version: Literal[1] = SCHEMA_VERSION
    number: Annotated[int, Field(ge=1)]
    action: Action
    model: Champion | None
    """Whom the event is about: the new champion, or a challenger that was proposed or rejected; null for `hold` and
    `nothing`."""
    by: Annotated[str, Field(min_length=1, max_length=200)]
    """A person, or the job that acted for the config's `auto`."""
    reason: Annotated[str, Field(max_length=4000)] = ""
    at: _Utc
    """ISO 8601 in UTC, by the clock of the machine that wrote it."""
    decision: str | None = None
    """The decision record's place, where a gate made one."""
    seen: Watermark | None = None
    """The data that were read, where a night wrote the record."""
    previous: _Sha256 | None
    """Of the bytes of the record before; null for the first."""

    @property
    def chooses(self) -> bool:
        """Whether it made its model the champion."""
        return self.action in CHAMPION_ACTIONS

    def encoded(self) -> bytes:
        """The file's content: the same record gives the same bytes."""
        left_out = {"seen"} if self.seen is None else set()
        return (json.dumps(self.model_dump(mode="json", exclude=left_out), indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Of the file's content."""
        return hashlib.sha256(self.encoded()).hexdigest()


def read_record(data: bytes, where: str) -> Record:
    """A record from its file. InputError, naming the file, if it is damaged or of a newer version."""
    try:
        found: Any = json.loads(data)
        if isinstance(found, dict) and found.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise InputError(
                f"{where} has schema_version {found['schema_version']}, and this prefopt reads {SCHEMA_VERSION}: use a"
                " newer prefopt."
            )
        return Record.model_validate(found)
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"{where} is damaged: {first}. Nothing was changed. Put the file back from a backup, or, if it is the last"
            " one, move it away: the history then ends before it."
        ) from None
