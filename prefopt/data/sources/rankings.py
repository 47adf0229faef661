"""From rankings and counts to votes between pairs of images."""

import itertools
from typing import Any

from prefopt.data.sources.base import BadRowError, RawVote, shown


def ranking_votes(ranks: Any, images: int, annotator: str, *, group: str = "", time: str = "") -> list[RawVote]:
    """The k(k-1)/2 votes of a k-way ranking: the lower rank wins, equal ranks tie. BadRowError if malformed.

    Only two images have a first one: how more of them were laid out is not known.
    """
    if not isinstance(ranks, list):
        raise BadRowError("bad_label", f"the ranks are no list: {shown(ranks)}")
    if len(ranks) != images or images < 2:
        raise BadRowError("bad_label", f"{len(ranks)} ranks for {images} images")
    numbers = [_number(rank) for rank in ranks]
    return [
        RawVote(first, second, _outcome(numbers[first], numbers[second]), annotator, group, time, ordered=images == 2)
        for first, second in itertools.combinations(range(images), 2)
    ]


def count_votes(wins_0: Any, wins_1: Any, limit: int = 10_000) -> list[RawVote]:
    """One anonymous vote per win. BadRowError unless both are whole numbers from 0 to `limit` and one is above 0."""
    counts = []
    for wins in (wins_0, wins_1):
        number = _number(wins)
        if number != int(number) or not 0 <= number <= limit:
            raise BadRowError("bad_label", f"count {shown(wins)} is not a whole number from 0 to {limit}")
        counts.append(int(number))
    if not sum(counts):
        raise BadRowError("bad_label", "neither image has a vote")
    return [RawVote(0, 1, label) for label, count in zip((1.0, 0.0), counts, strict=True) for _ in range(count)]


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRowError("bad_label", f"{shown(value)} is not a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise BadRowError("bad_label", f"{value!r} is not a finite number")
    return number


def _outcome(first: float, second: float) -> float:
    return 0.5 if first == second else float(first < second)
