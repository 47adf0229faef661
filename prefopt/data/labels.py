"""Votes become labels by rule; ties stay in the tables and never turn into a winner."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from prefopt.data.visits import Example

TIE = 0.5


def training_examples(
    votes: Iterable[dict[str, Any]], images: dict[str, tuple[str, str]], rule: str
) -> Iterator[Example]:
    """Examples of the pairs in `images` (pair_id to its images), from label rows sorted by (pair_id, vote_id).

    Rules: `each_vote` gives an example per vote; `majority` one per pair with label 0 or 1; `share` one per pair
    with p_human = (n_w + 1/2) / (n + 1). Only votes that count (latest) are used; ties give no example.
    """
    for pair, rows in groupby(votes, key=lambda row: row["pair_id"]):
        if pair not in images:
            continue
        labels = [(row["vote_id"], row["label"]) for row in rows if row["latest"]]
        if rule == "each_vote":
            chosen = [(vote, label) for vote, label in labels if label != TIE]
        else:
            chosen = [(pair, _pair_label([label for _, label in labels], rule))] if labels else []
            chosen = [(vote, label) for vote, label in chosen if label != TIE]
        for ordinal, (vote, label) in enumerate(chosen):
            yield Example(pair, vote, ordinal, len(chosen), label, *images[pair])


def _pair_label(labels: Sequence[float], rule: str) -> float:
    wins, count = sum(labels), len(labels)
    if rule == "share":
        return (wins + 0.5) / (count + 1)
    return TIE if wins == count / 2 else float(wins > count / 2)


def vote_share(labels: Sequence[float]) -> float:
    """The share of votes for image_0; ties count half."""
    return sum(labels) / len(labels)
