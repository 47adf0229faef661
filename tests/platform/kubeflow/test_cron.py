import pytest

from prefopt.errors import ConfigError
from prefopt.platform.kubeflow.cron import DESCRIPTORS, checked_cron


@pytest.mark.parametrize(
    "schedule",
    [
        "0 0 3 * * *",
        "0 0 9 ? * 2-6",
        "*/5 0-59/10 0,6,12-18/2 1-31 JAN-mar Mon,WED",
        "5/15 0 0 1 1 0",
        "0 0 0 31 1,2 ?",
        "0 0 0 29 2 *",
        "0 0 0 30 2 MON",
        "@every 1h30m",
        "@every 1.5h",
        *DESCRIPTORS,
    ],
)
def test_what_the_scheduler_reads_is_accepted(schedule: str) -> None:
    assert checked_cron(schedule) == schedule


def test_spaces_are_made_single() -> None:
    assert checked_cron("  0 0  3 * *\t* ") == "0 0 3 * * *"


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("60 0 3 * * *", "seconds: 60 is not within 0 and 59"),
        ("0 -1 3 * * *", "minutes: '' is not a number"),
        ("0 0 24 * * *", "hours: 24 is not within 0 and 23"),
        ("0 0 3 0 * *", "day of month: 0 is not within 1 and 31"),
        ("0 0 3 L * *", "day of month: 'L' is not a number"),
        ("0 0 3 * 13 *", "month: 13 is not within 1 and 12"),
        ("0 0 3 * MON *", "month: 'MON' is not a number or one of JAN"),
        ("0 0 3 * * 7", "day of week: 7 is not within 0 and 6"),
        ("0 0 3 * * FRI-MON", "day of week: 'FRI-MON' ends before it begins"),
        ("*/0 0 3 * * *", "seconds: the step of '*/0' is not a whole number above 0"),
        ("0/x 0 3 * * *", "seconds: the step of '0/x'"),
        ("0 0 1--3 * * *", "hours: '-3' is not a number"),
        ("0 0 1,,3 * * *", "hours: '' is not a number"),
        ("0 0 3 31 4,6 *", "day of month: no such day comes in these months"),
    ],
)
def test_a_wrong_field_is_named(schedule: str, said: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        checked_cron(schedule)
    assert said in str(wrong.value)


def test_five_fields_get_their_seconds() -> None:
    with pytest.raises(ConfigError, match=r"wants six, seconds first: --cron '0 0 3 \* \* \*'"):
        checked_cron("0 3 * * *")


@pytest.mark.parametrize("schedule", ["", "0 3", "TZ=UTC 0 0 3 * * *"])
def test_another_number_of_fields_names_all_six(schedule: str) -> None:
    with pytest.raises(ConfigError, match="seconds, minutes, hours, day of month, month, day of week"):
        checked_cron(schedule)


@pytest.mark.parametrize("schedule", ["@nightly", "@every", "@every day", "@every 0s", "@every -1h", "@daily 3"])
def test_unknown_descriptors_are_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match=r"known are @yearly|not a duration"):
        checked_cron(schedule)
