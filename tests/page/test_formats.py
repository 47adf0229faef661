import pytest

from prefopt.card.shares import Share
from prefopt.page.formats import count, ends, minus, number, percent, size, whole_ends


def test_numbers_are_set_with_a_minus_sign() -> None:
    assert minus("-0.5") == "\N{MINUS SIGN}0.5"
    assert minus("1e-05") == "1e-05"
    assert number(-0.123456) == "\N{MINUS SIGN}0.1235"


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.1234, "12.3%"), (1.0, "100.0%")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (12345, "12,345"), (2.5, "2.5"), (3.0, "3")])
def test_count(value: float | None, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(("value", "text"), [(12, "12 B"), (1500, "1.5 kB"), (3e13, "30.0 TB")])
def test_size(value: float, text: str) -> None:
    assert size(value) == text


def test_the_ends_of_an_interval() -> None:
    assert ends(Share(8, 10)) == "49.0% to 94.3%"
    assert whole_ends(Share(8, 10)) == "49 to 94%"
    assert ends(Share(0, 0)) == whole_ends(Share(0, 0)) == "not known"
