import pytest

from prefopt.planning.quantities import amount, duration, gigabytes, hours, number


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (number(204_800.4), "204,800"),
        (amount(6.76e12, "FLOP"), "6.76 TFLOP"),
        (amount(859_520_964), "860 M"),
        (amount(3.29e21, "FLOP"), "3,290 EFLOP"),
        (amount(0.0, "FLOP"), ""),
        (amount(12.0), "12"),
        (gigabytes(26.84e9), "26.8 GB"),
        (gigabytes(5.4e6), "5.4 MB"),
        (duration(40.2), "40 s"),
        (duration(720), "12 min"),
        (duration(3.4 * 3600), "3.4 h"),
        (duration(12 * 86400), "12 days"),
        (hours(7.38 * 3600), "7.38"),
        (hours(0.0), ""),
    ],
)
def test_numbers_are_said_as_people_read_them(said: str, meant: str) -> None:
    assert said == meant
