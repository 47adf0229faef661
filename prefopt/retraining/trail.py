"""What the registry's history means for the next night."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefopt.data.storage import Storage
from prefopt.gate import Decision, level, read_decision
from prefopt.registry import Record


@dataclass(frozen=True)
class Trail:
    """Earlier nights, as far as the next one depends on them."""

    tests: tuple[bool, ...]
    """Every test that a gate has made, in order: whether the challenger was better."""
    since_full: int
    """Promotions since the last model that was trained from the base."""
    audited: tuple[int, int]
    """What these have won and lost by the audit."""

    def level(self, false_promotions: float) -> float:
        """Of the next test: LORD++ over all tests so far."""
        better = [night for night, found in enumerate(self.tests, start=1) if found]
        return level(len(self.tests) + 1, better, false_promotions)


def read_trail(history: Sequence[Record]) -> Trail:
    """Read every decision that the history names, each once: a proposal and its promotion have one. InputError if a
    decision is gone or damaged."""
    decisions: dict[str, Decision] = {}
    since_full, won, lost = 0, 0, 0
    for record in history:
        found = decisions.setdefault(record.decision, _read(record.decision)) if record.decision else None
        if record.action != "promote":
            continue
        if found is None or found.full:
            since_full, won, lost = 0, 0, 0
        else:
            since_full += 1
        if found and found.audit and not found.full:
            won, lost = won + found.audit.won, lost + found.audit.lost
    return Trail(tuple(found.verdict == "better" for found in decisions.values()), since_full, (won, lost))


def _read(place: str) -> Decision:
    directory, _, name = place.rpartition("/")
    return read_decision(Storage(directory), name)
