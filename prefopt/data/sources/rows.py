"""Row-wise reading of parquet, JSON lines, JSON arrays and CSV, in planned units, with flat memory."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefopt.data.storage import Storage
from prefopt.errors import InputError

BATCH_ROWS = 16
MAX_LINE_BYTES = 64_000_000
SAMPLE_LINES = 1_000

Row = tuple[int, dict[str, Any]]


def plan_file(root: Storage, file: str, unit_rows: int, columns: list[str]) -> list[dict[str, Any]]:
    """Cut a file into units. InputError if it is damaged or lacks one of the columns."""
    if file.endswith(".parquet"):
        return _plan_parquet(root, file, unit_rows, columns)
    if file.endswith(".jsonl"):
        return _plan_lines(root, file, unit_rows, columns)
    total = sum(1 for _ in _text_rows(root, file, columns))
    return [
        {"file": file, "start": start, "count": min(unit_rows, total - start)} for start in range(0, total, unit_rows)
    ]


def units_with(root: Storage, file: str, wanted: list[int]) -> list[dict[str, Any]]:
    """Units that hold the wanted rows of a file: its row groups for parquet, its beginning for text."""
    if not file.endswith(".parquet"):
        return [{"file": file, "offset": 0, "start": 0, "count": max(wanted) + 1}]
    with _open_parquet(root, file) as parquet:
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
    units, start = [], 0
    for group, size in enumerate(sizes):
        if any(start <= row < start + size for row in wanted):
            units.append({"file": file, "groups": [group], "start": start, "count": size})
        start += size
    return units


def read_rows(root: Storage, unit: dict[str, Any], columns: list[str]) -> Iterator[Row]:
    """(row number, row) of a planned unit."""
    file = unit["file"]
    if file.endswith(".parquet"):
        yield from _read_parquet(root, unit, columns)
    elif file.endswith(".jsonl"):
        yield from _read_lines(root, unit)
    else:
        rows = itertools.islice(_text_rows(root, file, []), unit["start"], unit["start"] + unit["count"])
        yield from enumerate(rows, start=unit["start"])


def _plan_parquet(root: Storage, file: str, unit_rows: int, columns: list[str]) -> list[dict[str, Any]]:
    with _open_parquet(root, file) as parquet:
        names = parquet.schema_arrow.names
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
    _require_columns(root, file, columns, names)
    units: list[dict[str, Any]] = []
    start = 0
    for group, size in enumerate(sizes):
        if units and units[-1]["count"] + size <= unit_rows:
            units[-1]["groups"].append(group)
            units[-1]["count"] += size
        else:
            units.append({"file": file, "groups": [group], "start": start, "count": size})
        start += size
    return units


def _open_parquet(root: Storage, file: str) -> Any:
    source = root.open_input(file)
    try:
        return pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 16)
    except (OSError, pa.ArrowException) as error:
        source.close()
        raise InputError(
            f"{root.uri}/{file} is not a whole parquet file ({_short(error)}): fetch it again or remove it."
        ) from None


def _read_parquet(root: Storage, unit: dict[str, Any], columns: list[str]) -> Iterator[Row]:
    row = unit["start"]
    with _open_parquet(root, unit["file"]) as parquet:
        wanted = [name for name in columns if name in parquet.schema_arrow.names]
        try:
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=unit["groups"], columns=wanted, use_threads=False):
                for values in batch.to_pylist():
                    yield row, values
                    row += 1
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{root.uri}/{unit['file']} cannot be read after row {row} ({_short(error)}):"
                " fetch it again or remove it."
            ) from None


def _plan_lines(root: Storage, file: str, unit_rows: int, columns: list[str]) -> list[dict[str, Any]]:
    """A JSON object may leave a field out: a column counts as missing if none of the first lines has it."""
    units: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    offset = 0
    with root.open_input(file) as source:
        for row, line in enumerate(_lines(root, file, source)):
            if row % unit_rows == 0:
                units.append({"file": file, "offset": offset, "start": row, "count": 0})
            units[-1]["count"] += 1
            offset += len(line)
            if row < SAMPLE_LINES and line.strip():
                names |= dict.fromkeys(_json_object(root, file, row, line))
    if names:
        _require_columns(root, file, columns, list(names))
    return units


def _read_lines(root: Storage, unit: dict[str, Any]) -> Iterator[Row]:
    with root.open_input(unit["file"]) as source:
        source.seek(unit["offset"])
        lines = itertools.islice(_lines(root, unit["file"], source), unit["count"])
        for row, line in enumerate(lines, start=unit["start"]):
            if line.strip():
                yield row, _json_object(root, unit["file"], row, line)


def _lines(root: Storage, file: str, source: Any) -> Iterator[bytes]:
    stream = io.BufferedReader(source)
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"{root.uri}/{file} has a line of more than {MAX_LINE_BYTES} bytes.")
        yield line


def _json_object(root: Storage, file: str, row: int, line: bytes) -> dict[str, Any]:
    where = f"{root.uri}/{file}, line {row + 1}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({_short(error)}): mend or remove the line.") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} must hold a JSON object with one field per column.")
    return value


def _text_rows(root: Storage, file: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    with root.open_input(file) as source, io.TextIOWrapper(source, encoding="utf-8-sig", newline="") as stream:
        try:
            if file.endswith(".json"):
                yield from _json_array(stream, f"{root.uri}/{file}")
            else:
                reader = csv.DictReader(stream, delimiter="\t" if file.endswith(".tsv") else ",")
                _require_columns(root, file, columns, list(reader.fieldnames or ()))
                for row in reader:
                    yield {name: value if value != "" else None for name, value in row.items() if name is not None}
        except (UnicodeDecodeError, RecursionError, csv.Error) as error:
            raise InputError(f"{root.uri}/{file} cannot be read as text: {error}.") from None


def _json_array(stream: io.TextIOBase, where: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON array, one after another, without holding the whole file."""
    decoder = json.JSONDecoder()
    buffer, position = stream.read(1 << 20).lstrip(), 1
    if not buffer.startswith("["):
        raise InputError(f"{where} must hold a JSON array of entries.")
    while True:
        while position < len(buffer) and buffer[position] in " \t\r\n,":
            position += 1
        if position < len(buffer) and buffer[position] == "]":
            return
        try:
            value, position = decoder.raw_decode(buffer, position)
        except ValueError:
            chunk = stream.read(1 << 20)
            if not chunk or len(buffer) - position > MAX_LINE_BYTES:
                raise InputError(f"{where} is not a whole JSON array: fetch it again.") from None
            buffer, position = buffer[position:] + chunk, 0
            continue
        if not isinstance(value, dict):
            raise InputError(f"{where} must hold JSON objects, one per entry.")
        yield value


def _require_columns(root: Storage, file: str, columns: list[str], names: list[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{root.uri}/{file} has no column {', '.join(map(repr, missing))}; it has {', '.join(names)}."
            " Check its kind and the names of its columns."
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
