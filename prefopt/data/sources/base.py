"""What every source gives: rows that hold a prompt, images, and votes between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from prefopt.data.storage import Storage


@dataclass(frozen=True)
class ImageCell:
    """An image of a row: bytes in a column of the table, or a file of its own."""

    column: str = ""
    data: bytes | None = None
    path: str = ""
    """Relative to the source's image directory, or an s3:// URI."""


@dataclass(frozen=True)
class RawVote:
    """A vote between two images of a row, by index. label = P(first wins)."""

    first: int
    second: int
    label: Any
    annotator: str = ""
    group: str = ""
    time: str = ""
    event: str = ""
    ordered: bool = True
    """Whether `first` was shown first, as far as the source tells."""


@dataclass(frozen=True)
class ParsedRow:
    """A source row, mapped but not yet checked."""

    prompt: Any
    images: list[ImageCell]
    votes: list[RawVote]
    category: str = ""
    """Of the prompt."""


class BadRowError(Exception):
    """A row that cannot be used: a reason of QUARANTINE_REASONS, a detail for the user, and its votes' number."""

    def __init__(self, reason: str, detail: str, votes: int = 1) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.votes = reason, detail, votes


class Source(Protocol):
    """A preference data set: files of rows, cut into units, mapped to votes."""

    @property
    def root(self) -> Storage:
        """The directory that table files lie in."""
        ...

    def files(self) -> list[str]:
        """The table files, relative to the root, sorted. InputError if there are none."""
        ...

    def plan(self, unit_rows: int) -> list[dict[str, Any]]:
        """Units of about `unit_rows` rows. InputError for a file that is damaged or lacks a column."""
        ...

    def rows(self, unit: dict[str, Any], prompts_only: bool = False) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """(file, row number, row) of a unit, streamed; with `prompts_only` just the prompt's column."""
        ...

    def prompt(self, row: dict[str, Any]) -> Any:
        """The prompt of a row."""
        ...

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        """Map a row; raises BadRowError."""
        ...

    def image_bytes(self, file: str, limit: int) -> bytes:
        """The bytes of an image file, by the path of an ImageCell. BadRowError if missing or above the limit."""
        ...


def require(row: dict[str, Any], name: str) -> Any:
    """The value of a column; BadRowError if it is null or absent."""
    value = row.get(name)
    if value is None:
        raise BadRowError("missing_field", f"{name} is empty")
    return value


def text(value: Any) -> str:
    """An optional value (annotator, time, event) as text; null and NaN are the empty string. May raise BadRowError."""
    if value is None or value != value:
        return ""
    try:
        return str(value).encode().decode()
    except UnicodeEncodeError:
        raise BadRowError("missing_field", f"{shown(value)} is not valid Unicode") from None


def shown(value: Any) -> str:
    """A value as a quarantine's detail shows it: whatever it is, in at most 100 characters."""
    return repr(value)[:100]
