from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.data.labels import training_examples, vote_share
from prefopt.data.visits import Example

IMAGES = {"p": ("a", "b")}


def votes(*labels: float, pair: str = "p", latest: bool = True) -> list[dict[str, Any]]:
    return [
        {"pair_id": pair, "vote_id": f"{pair}{n}{latest}", "label": label, "latest": latest}
        for n, label in enumerate(labels)
    ]


def examples(rows: list[dict[str, Any]], rule: str) -> list[Example]:
    return list(training_examples(rows, IMAGES, rule))


def test_each_vote_is_an_example_but_ties() -> None:
    found = examples(votes(1.0, 0.5, 0.0), "each_vote")
    assert [(e.label, e.ordinal, e.of) for e in found] == [(1.0, 0, 2), (0.0, 1, 2)]
    assert [e.vote_id for e in found] == ["p0True", "p2True"]
    assert (found[0].image_0, found[0].image_1) == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "majority"),
    [((1.0,), 1.0), ((0.0,), 0.0), ((1.0, 1.0, 0.0), 1.0), ((0.5, 0.0), 0.0), ((1.0, 0.5, 0.5), 1.0)],
)
def test_the_majority_wins(labels: tuple[float, ...], majority: float) -> None:
    (found,) = examples(votes(*labels), "majority")
    assert (found.label, found.ordinal, found.of) == (majority, 0, 1)


def test_share_by_hand() -> None:
    (found,) = examples(votes(1.0, 1.0, 0.0), "share")
    assert found.label == pytest.approx(2.5 / 4)
    (tied,) = examples(votes(1.0, 0.5), "share")
    assert tied.label == pytest.approx(2.0 / 3)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=9))
def test_ties_are_never_a_winner(labels: list[float]) -> None:
    even = sum(labels) == len(labels) / 2
    for rule in ("majority", "share"):
        found = examples(votes(*labels), rule)
        assert bool(found) != even
        assert all((e.label > 0.5) == (sum(labels) > len(labels) / 2) for e in found)
    assert all(e.label != 0.5 for e in examples(votes(*labels), "each_vote"))
    mirrored = examples(votes(*(1.0 - label for label in labels)), "share")
    assert [e.label for e in mirrored] == pytest.approx([1.0 - e.label for e in examples(votes(*labels), "share")])


@pytest.mark.parametrize("rule", ["each_vote", "majority", "share"])
def test_only_the_latest_votes_count(rule: str) -> None:
    rows = votes(0.0, 0.0, latest=False) + votes(1.0)
    (found,) = examples(rows, rule)
    assert found.label > 0.5
    assert examples(votes(1.0, latest=False), rule) == []


def test_other_pairs_are_left_out() -> None:
    assert examples(votes(1.0, pair="other"), "each_vote") == []


def test_the_share_of_votes_counts_ties_half() -> None:
    assert vote_share([1.0, 0.5, 0.0, 1.0]) == 0.625
