"""Text files in UTF-8 and CSV: what is neither is an error that names its line."""

import csv
import io
from collections.abc import Iterator

from prefopt.errors import InputError


def utf8_text(data: bytes, where: str) -> str:
    """The text without a byte-order mark. InputError, naming the file as `where` and the line, unless it is UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None


def csv_rows(data: bytes, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line in which it starts, cells) of every row, the header's included. InputError as `utf8_text`, or for a row
    that is not CSV."""
    return _rows(io.StringIO(utf8_text(data, where), newline=""), where)


def _rows(stream: io.StringIO, where: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}, line {line} is not valid CSV ({error}): mend or remove the line.") from None
        yield line, cells
