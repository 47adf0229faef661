"""When votes were given: moments from texts, and stretches of time that hold equally many votes."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prefopt.card.shards import Floats, Ints

BINS = 8
_VOTES_PER_BIN = 25
_EPOCH_SECONDS, _FINER_UNIT = 1e8, 1e11
"""Numbers from here on are seconds since 1970, or thousandths of them and so on; smaller ones only tell an order."""


def moments(texts: Iterable[str | None]) -> Floats:
    """[n] seconds since 1970, or a source's own numbers; NaN for what is neither ISO 8601 nor a number."""
    return np.array([_moment(text) for text in texts], dtype=np.float64)


def _moment(text: str | None) -> float:
    if not text:
        return np.nan
    try:
        number = float(text)
    except ValueError:
        return _iso_moment(text)
    if not np.isfinite(number):
        return np.nan
    while number >= _FINER_UNIT:
        number /= 1000.0
    return number


def _iso_moment(text: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return np.nan


@dataclass(frozen=True)
class TimeBins:
    """Stretches of time with about as many votes in each."""

    edges: Floats
    """[bins + 1] in ascending order; empty where votes carry no time or are too few."""

    @classmethod
    def of(cls, known: Floats) -> "TimeBins":
        """Bins of all moments that are known."""
        known = known[np.isfinite(known)]
        count = min(BINS, len(known) // _VOTES_PER_BIN)
        edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, count + 1))) if count > 1 else np.empty(0)
        return cls(edges if len(edges) > 2 else np.empty(0))

    def __len__(self) -> int:
        return max(len(self.edges) - 1, 0)

    def place(self, at: Floats) -> Ints:
        """[n] the bin of each moment; `len(self)` for those that are not known."""
        if not len(self):
            return np.zeros(len(at), dtype=np.int64)
        bins = np.clip(np.searchsorted(self.edges, at, side="right") - 1, 0, len(self) - 1)
        return np.where(np.isfinite(at), bins, len(self))

    def names(self) -> list[str]:
        """When each bin begins."""
        return [_name(edge, self.edges) for edge in self.edges[:-1]]


def _name(edge: float, edges: Floats) -> str:
    if edges[0] < _EPOCH_SECONDS:
        return f"{edge:g}"
    moment = datetime.datetime.fromtimestamp(edge, datetime.UTC)
    return f"{moment:%Y-%m-%d}" if edges[-1] - edges[0] > 2 * 86_400 * len(edges) else f"{moment:%m-%d %H:%M}"
