"""From rankings and counts to votes between pairs of images."""

import itertools
from collections.abc import Sequence
from typing import Any

from prefopt.data.sources.base import BadRowError, RawVote


def ranking_votes(ranks: Sequence[Any], images: int, annotator: str, **shared: str) -> list[RawVote]:
    """The k(k-1)/2 votes of a k-way ranking: the lower rank wins, equal ranks tie. BadRowError if malformed."""
    if len(ranks) != images or images < 2:
        raise BadRowError("bad_label", f"{len(ranks)} ranks for {images} images")
    numbers = [_number(rank) for rank in ranks]
    return [
        RawVote(first, second, _outcome(numbers[first], numbers[second]), annotator, **shared)
        for first, second in itertools.combinations(range(images), 2)
    ]


def count_votes(wins_0: Any, wins_1: Any, limit: int = 10_000) -> list[RawVote]:
    """One anonymous vote per win. BadRowError unless both are whole numbers from 0 to `limit` and one is above 0."""
    counts = []
    for wins in (wins_0, wins_1):
        number = _number(wins)
        if number != int(number) or not 0 <= number <= limit:
            raise BadRowError("bad_label", f"count {wins!r} is not a whole number from 0 to {limit}")
        counts.append(int(number))
    if not sum(counts):
        raise BadRowError("bad_label", "neither image has a vote")
    return [
        RawVote(0, 1, label, event=f"{label:.0f}/{index}")
        for label, count in zip((1.0, 0.0), counts, strict=True)
        for index in range(count)
    ]


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadRowError("bad_label", f"{value!r} is not a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise BadRowError("bad_label", f"{value!r} is not a finite number")
    return number


def _outcome(first: float, second: float) -> float:
    return 0.5 if first == second else float(first < second)
