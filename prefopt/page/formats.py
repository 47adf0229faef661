"""How figures are written on a page."""

from typing import Protocol


class Interval(Protocol):
    """A figure with the ends of its interval, where it has one."""

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return "-" if value is None else f"{100.0 * value:.1f}%"


def count(value: float | None) -> str:
    """A whole number with thousands separators, or the number itself with one decimal."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def number(value: float | None) -> str:
    """Four significant digits."""
    return "-" if value is None else minus(f"{value:.4g}")


def minus(text: str) -> str:
    """A number with a minus sign in place of a leading hyphen."""
    return f"\N{MINUS SIGN}{text[1:]}" if text.startswith("-") else text


def cell(text: object) -> str:
    """Text for Markdown that neither ends a table's cell nor starts markup."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in plain)


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000.0:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000.0
    return f"{value:.1f} TB"


def ends(interval: Interval) -> str:
    """The ends of the interval of a share."""
    if interval.low is None or interval.high is None:
        return "not known"
    return f"{percent(interval.low)} to {percent(interval.high)}"


def number_ends(interval: Interval) -> str:
    """The ends of the interval of a figure that is no share."""
    if interval.low is None or interval.high is None:
        return "not known"
    return f"{number(interval.low)} to {number(interval.high)}"


def whole_ends(interval: Interval) -> str:
    """The same in whole percent, where room is scarce."""
    if interval.low is None or interval.high is None:
        return "not known"
    return f"{100.0 * interval.low:.0f} to {100.0 * interval.high:.0f}%"
