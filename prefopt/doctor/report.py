"""A check and how checks are said."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    """What is there, in a sentence."""
    advice: str = ""
    """What to do; empty where all is well."""


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Check:
    """It will work, but not as well as it could."""
    return Check(name, "warning", found, advice)


def problem(name: str, found: str, advice: str) -> Check:
    """It will not work."""
    return Check(name, "problem", found, advice)


def count(checks: Sequence[Check], state: State) -> int:
    """How many checks came out so."""
    return sum(check.state == state for check in checks)


def as_lines(checks: Sequence[Check]) -> list[str]:
    """A line per check, its advice below it, and a last line with the sums."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<8} {'':<{width}}  -> {check.advice}")
    problems, warnings = count(checks, "problem"), count(checks, "warning")
    return [*lines, f"{len(checks)} checks: {_plural(problems, 'problem')}, {_plural(warnings, 'warning')}."]


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The same as one object."""
    return {
        "checks": [asdict(check) for check in checks],
        "problems": count(checks, "problem"),
        "warnings": count(checks, "warning"),
    }


def _plural(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
