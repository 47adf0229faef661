"""Text files in UTF-8 and CSV."""

import pytest

from prefopt.data.texts import csv_rows, utf8_text
from prefopt.errors import InputError


def test_rows_are_counted_by_the_line_in_which_they_start() -> None:
    data = 'a,b\r\n"two\nlines",\n\n"x ""y""",1\n'.encode("utf-8-sig")
    assert list(csv_rows(data, "f.csv")) == [(1, ["a", "b"]), (2, ["two\nlines", ""]), (4, []), (5, ['x "y"', "1"])]


def test_what_is_not_utf8_or_not_csv_is_named_by_its_line() -> None:
    with pytest.raises(InputError, match=r"^f\.csv, line 2: byte 0xe9 is not UTF-8\. Save the file as UTF-8\.$"):
        utf8_text(b"a\n\xe9\n", "f.csv")
    rows = csv_rows(b'a\nb\n"c"d\n', "f.csv")
    assert [next(rows), next(rows)] == [(1, ["a"]), (2, ["b"])]
    with pytest.raises(InputError, match=r"^f\.csv, line 3 is not valid CSV \(.*\): mend or remove the line\.$"):
        next(rows)
