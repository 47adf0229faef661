"""Files of outcomes."""

import pytest

from prefopt.errors import InputError
from prefopt.lab.outcome import as_lines, read_outcomes
from tests.kit import lab as kit


def test_outcomes_come_back_whatever_their_names_hold() -> None:
    names = ["dpo", "d\u2028p\u0085o", "d\r\no"]
    made = [kit.outcome(name, "clean", 0) for name in sorted(names)]
    assert read_outcomes(as_lines(made).encode(), "a file") == made
    assert read_outcomes(b"", "a file") == []


@pytest.mark.parametrize("line", [b'{"key": "\xff"}', b"{", b"", b'{"key": 1}'])
def test_a_line_that_is_no_outcome_is_named(line: bytes) -> None:
    whole = as_lines([kit.outcome("dpo", "clean", 0)]).encode()
    with pytest.raises(InputError, match=r"a file, line 2 is no outcome of a cell .* Remove the line"):
        read_outcomes(whole + line + b"\n" + whole, "a file")
