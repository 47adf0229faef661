"""Schedules as Kubeflow Pipelines reads them: six fields, seconds first, or a descriptor such as @daily.

Its scheduler parses with robfig/cron version 1, which takes five fields without a word and reads them as seconds,
minutes, hours, day of month and month: "0 3 * * *" would run every hour. So a schedule is checked before it is sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prefopt.errors import ConfigError

EXAMPLE = "0 0 3 * * *"
"""Every night at three."""
DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(r"\+?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """A number or a name, within the bounds. ValueError says what is wrong."""
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{text!r} is not a number{self._or_name}")
        if not self.low <= int(text) <= self.high:
            raise ValueError(f"{text} is not within {self.low} and {self.high}")
        return int(text)

    def values(self, text: str) -> set[int]:
        """What a list of ranges stands for. ValueError says what is wrong."""
        return {value for part in text.split(",") for value in self._range(part)}

    @property
    def _or_name(self) -> str:
        return f" or one of {', '.join(self.names).upper()}" if self.names else ""

    def _range(self, text: str) -> Iterator[int]:
        bounds, slash, step = text.partition("/")
        low, hyphen, high = bounds.partition("-")
        if slash and not (step.isascii() and step.isdigit() and int(step)):
            raise ValueError(f"the step of {text!r} is not a whole number above 0")
        if bounds in ("*", "?"):
            first, last = self.low, self.high
        else:
            first = self.number(low)
            last = self.number(high) if hyphen else self.high if slash else first
        if first > last:
            raise ValueError(f"{text!r} ends before it begins")
        yield from range(first, last + 1, int(step) if slash else 1)


_FIELDS = (
    _Field("seconds", 0, 59),
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def checked_cron(text: str) -> str:
    """The schedule with single spaces. Raises ConfigError, which names the field, for what the server would refuse,
    misread, or never come to."""
    given = text.split()
    schedule = " ".join(given)
    if schedule.startswith("@"):
        _check_descriptor(schedule)
        return schedule
    if len(given) == 5:
        raise ConfigError(
            f"--cron {schedule!r} has five fields. Kubeflow Pipelines wants six, seconds first: --cron '0 {schedule}'."
        )
    if len(given) != 6:
        raise ConfigError(
            f"--cron {schedule!r} has {len(given)} fields, not six: {', '.join(field.name for field in _FIELDS)}."
            f" Every night at three is --cron '{EXAMPLE}'. There is no field for a time zone."
        )
    values = []
    for field, part in zip(_FIELDS, given, strict=True):
        try:
            values.append(field.values(part))
        except ValueError as wrong:
            raise ConfigError(f"--cron {schedule!r}: {field.name}: {wrong}.") from None
    days, months, any_weekday = values[3], values[4], given[5][0] in "*?"
    if any_weekday and min(days) > max(_DAYS[month - 1] for month in months):
        raise ConfigError(f"--cron {schedule!r}: day of month: no such day comes in these months.")
    return schedule


def _check_descriptor(schedule: str) -> None:
    word, _, duration = schedule.partition(" ")
    if word == "@every":
        if not _DURATION.fullmatch(duration) or not re.search(r"[1-9]", duration):
            raise ConfigError(f"--cron {schedule!r}: {duration!r} is not a duration, such as 24h or 1h30m.")
    elif schedule not in DESCRIPTORS:
        raise ConfigError(f"--cron {schedule!r}: known are {', '.join(DESCRIPTORS)} and @every with a duration.")
