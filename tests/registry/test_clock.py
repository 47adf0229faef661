"""Times in the registry that lie in the future."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from prefopt.errors import InputError
from prefopt.registry import Record, Watermark, check_clock

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def record(number: int, at: datetime, newest: datetime | None = None) -> Record:
    seen = Watermark(ingest="1" * 64, votes=3, newest=newest.isoformat()) if newest else None
    return Record(
        number=number, action="nothing", model=None, by="nightly", at=at.isoformat(), seen=seen, previous=None
    )


def hours(count: float) -> datetime:
    return NOON + timedelta(hours=count)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [record(1, hours(-24), hours(-25))],
        [record(1, hours(1), hours(1))],
        [record(1, hours(30)), record(2, hours(-1))],
        [record(1, hours(-3), hours(30)), record(2, hours(-2), hours(-4))],
    ],
)
def test_the_past_small_skew_and_what_was_put_right_pass(history: list[Record]) -> None:
    check_clock(history, NOON)


def test_a_record_from_the_future_is_named_with_both_times() -> None:
    words = r"Record 2 .*2031-05-01T13:00:01\+00:00.*2031-05-01T12:00:00\+00:00 here.*clock.*wrong.*Set the clock right"
    with pytest.raises(InputError, match=words):
        check_clock([record(1, hours(-1)), record(2, hours(1) + timedelta(seconds=1))], NOON)


def test_a_watermark_from_the_future_is_named_though_others_wrote_since() -> None:
    history = [record(1, hours(-2), hours(2)), record(2, hours(-1))]
    with pytest.raises(InputError, match=r"Record 1 .*votes up to 2031-05-01T14:00:00\+00:00.*12:00:00\+00:00 here"):
        check_clock(history, NOON)
    check_clock(history, NOON, tolerance=timedelta(hours=2))


def test_the_zone_of_now_does_not_matter() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    check_clock([record(1, hours(1))], east)
    with pytest.raises(InputError, match=r"12:00:00\+00:00 here"):
        check_clock([record(1, hours(2))], east)
