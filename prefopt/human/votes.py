"""Read people's votes from a CSV file, row by row: what cannot be used is counted by reason."""

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prefopt.data.storage import Storage
from prefopt.data.texts import csv_rows
from prefopt.errors import ConfigError, InputError

Choice = Literal["left", "right", "tie"]
CHOICES: dict[str, Choice] = {"left": "left", "right": "right", "tie": "tie"}
MAX_FILE_BYTES = 256_000_000


class VoteColumns(NamedTuple):
    """What the columns of a votes file are called."""

    annotator_id: str = "annotator_id"
    pair_id: str = "pair_id"
    choice: str = "choice"


class Vote(NamedTuple):
    """One person's choice on one pair as it was shown."""

    annotator: str
    pair_id: str
    choice: Choice


@dataclass(frozen=True)
class Skipped:
    """Rows that were left out for one reason."""

    count: int
    first_line: int


@dataclass(frozen=True)
class VotesRead:
    """A file's valid votes, one for each annotator and pair, and what became of its other rows."""

    votes: list[Vote]
    rows: int
    """Rows that are not blank: those of `votes` and the skipped ones."""
    skipped: dict[str, Skipped]
    """By reason: missing_annotator, unknown_pair, unknown_choice, replaced_vote (a later row counts instead)."""


def vote_columns(settings: list[str]) -> VoteColumns:
    """Names of columns from NAME=COLUMN texts; ConfigError for a name that is none of VoteColumns' fields."""
    names: dict[str, str] = {}
    for setting in settings:
        name, _, column = setting.partition("=")
        if name not in VoteColumns._fields or not column:
            raise ConfigError(
                f"--vote-column {setting!r} must be NAME=COLUMN, and NAME one of {', '.join(VoteColumns._fields)}."
            )
        names[name] = column
    return VoteColumns(**names)


def check_votes_file(path: str) -> None:
    """InputError unless there is such a file, not too large."""
    directory, name = os.path.split(path)
    size = Storage(directory or ".").size(name) if name else None
    if size is None:
        raise InputError(f"There is no votes file {path}. Check the path given to --import-votes.")
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {size} bytes: a file of votes may have {MAX_FILE_BYTES}.")


def read_votes(path: str, pairs: Container[str], columns: VoteColumns | None = None) -> VotesRead:
    """The votes of a CSV file in UTF-8, with or without a byte-order mark, on `pairs`.

    Case and spaces around cells do not matter to choices; other columns are left alone. Raises InputError for a file
    that is missing, not UTF-8 or not CSV, without these columns, or without one valid row.
    """
    check_votes_file(path)
    columns = columns or VoteColumns()
    votes: dict[tuple[str, str], tuple[Vote, int]] = {}
    skipped: dict[str, Skipped] = {}
    rows = 0

    def skip(reason: str, line: int) -> None:
        before = skipped.get(reason, Skipped(0, line))
        skipped[reason] = Skipped(before.count + 1, min(before.first_line, line))

    for line, (annotator, pair_id, choice) in _rows(path, columns):
        rows += 1
        if not annotator:
            skip("missing_annotator", line)
        elif pair_id not in pairs:
            skip("unknown_pair", line)
        elif choice.casefold() not in CHOICES:
            skip("unknown_choice", line)
        else:
            if (annotator, pair_id) in votes:
                skip("replaced_vote", votes[annotator, pair_id][1])
            votes[annotator, pair_id] = Vote(annotator, pair_id, CHOICES[choice.casefold()]), line
    if not votes:
        raise InputError(f"{path} holds no valid vote{_told(skipped)}. {_WANTED}")
    return VotesRead([vote for vote, _ in votes.values()], rows, dict(sorted(skipped.items())))


_WANTED = "Rows need an annotator, the pair_id of an exported pair of this evaluation, and left, right or tie."


def _told(skipped: dict[str, Skipped]) -> str:
    reasons = [f"{reason} in {found.count} rows, first in line {found.first_line}" for reason, found in skipped.items()]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _rows(path: str, columns: VoteColumns) -> Iterator[tuple[int, list[str]]]:
    """(line, stripped cells in the order of `columns`) of every row that is not blank; a cell that lacks is empty."""
    directory, name = os.path.split(path)
    records = csv_rows(Storage(directory or ".").read_bytes(name), path)
    _, header = next(records, (1, []))
    header = [cell.strip() for cell in header]
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, missing))}; its header is {', '.join(header) or 'empty'}. Name"
            " its columns with --vote-column, for example --vote-column annotator_id=worker."
        )
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise InputError(f"{path} has two columns {twice[0]!r}: remove one.")
    places = [header.index(name) for name in columns]
    for line, cells in records:
        if any(cell.strip() for cell in cells):
            yield line, [cells[place].strip() if place < len(cells) else "" for place in places]
