"""Strict reading of text files and parquet tables: what does not fit its format is an error that names its place."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from prefopt.data.sources.rows import plan_file, read_rows
from prefopt.data.storage import Storage
from prefopt.data.texts import csv_rows, utf8_text
from prefopt.errors import InputError

MAX_FILE_BYTES = 64_000_000
_UNIT_ROWS = 100_000


class Record(NamedTuple):
    """Values by column. A blank line has none."""

    where: str
    values: dict[str, Any]


def require_file(root: Storage, file: str) -> None:
    """InputError if there is no such file."""
    if root.size(file) is None:
        raise InputError(f"There is no prompt file {root.uri}/{file}. Check the path of the prompt set.")


def text_lines(root: Storage, file: str) -> list[tuple[str, str]]:
    """(file and line number, line) of a text file; InputError if it is missing, too large or not UTF-8."""
    return [(f"{root.uri}/{file}, line {number}", line) for number, line in enumerate(_lines(root, file), start=1)]


def records(root: Storage, file: str, columns: list[str]) -> Iterator[Record]:
    """The rows of a .csv, .tsv, .jsonl or .parquet file.

    InputError for a missing column, a row of another width, a line that is no JSON object, damage.
    """
    if file.endswith(".parquet"):
        require_file(root, file)
        for unit in plan_file(root, file, _UNIT_ROWS, columns):
            for row, values in read_rows(root, unit, columns):
                yield Record(f"{root.uri}/{file}, row {row + 1}", values)
    elif file.endswith(".jsonl"):
        yield from _objects(root, file)
    else:
        yield from _cells(root, file, columns)


def json_texts(root: Storage, file: str) -> Iterator[tuple[str, Any]]:
    """(file and entry number, entry) of a JSON array; InputError if the file holds anything else."""
    where = f"{root.uri}/{file}"
    try:
        entries = json.loads(utf8_text(_content(root, file), where))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}): fetch it again.") from None
    if not isinstance(entries, list):
        raise InputError(f"{where} must hold a JSON list of prompts.")
    for number, entry in enumerate(entries, start=1):
        yield f"{where}, entry {number}", entry


def _content(root: Storage, file: str) -> bytes:
    """A whole text file; InputError if it is missing or too large."""
    require_file(root, file)
    size = root.size(file) or 0
    if size > MAX_FILE_BYTES:
        raise InputError(f"{root.uri}/{file} has {size} bytes: a text file of prompts may have {MAX_FILE_BYTES}.")
    return root.read_bytes(file)


def _lines(root: Storage, file: str) -> list[str]:
    """Lines end with a line feed, perhaps after a carriage return, and with nothing else."""
    lines = utf8_text(_content(root, file), f"{root.uri}/{file}").split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _objects(root: Storage, file: str) -> Iterator[Record]:
    for where, line in text_lines(root, file):
        if not line.strip():
            yield Record(where, {})
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not valid JSON ({error}): mend or remove the line.") from None
        if not isinstance(value, dict) or not value:
            raise InputError(f"{where} must hold a JSON object with a field per column: mend or remove the line.")
        yield Record(where, value)


def _cells(root: Storage, file: str, columns: list[str]) -> Iterator[Record]:
    rows = _tab_rows(root, file) if file.endswith(".tsv") else _comma_rows(root, file)
    where, header = next(rows, (f"{root.uri}/{file}", []))
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        problem = f"has no column {', '.join(map(repr, missing))}" if missing else "names a column twice"
        raise InputError(
            f"{where} {problem}; its header is {', '.join(header) or 'empty'}. Check the file and the columns' names."
        )
    for where, cells in rows:
        if not any(cell.strip() for cell in cells):
            yield Record(where, {})
        elif len(cells) != len(header):
            raise InputError(
                f"{where} has {len(cells)} columns, but the header has {len(header)} ({', '.join(header)}): mend or"
                " remove the line."
            )
        else:
            yield Record(where, dict(zip(header, cells, strict=True)))


def _tab_rows(root: Storage, file: str) -> Iterator[tuple[str, list[str]]]:
    """A quotation mark in a TSV is a character like others; a cell that looks quoted as in a CSV is refused."""
    for where, line in text_lines(root, file):
        cells = line.split("\t")
        for cell in cells:
            inner = cell[1:-1]
            if cell.startswith('"') and cell.endswith('"') and '""' in inner and '"' not in inner.replace('""', ""):
                raise InputError(
                    f"{where}: the cell {cell[:60]!r} is quoted as in a CSV, and a TSV has no quotation: save the file"
                    " as .csv, or without quotation."
                )
        yield where, cells


def _comma_rows(root: Storage, file: str) -> Iterator[tuple[str, list[str]]]:
    where = f"{root.uri}/{file}"
    for line, cells in csv_rows(_content(root, file), where):
        yield f"{where}, line {line}", cells
