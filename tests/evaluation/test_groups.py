"""Accuracy by annotator group, on gaps made by hand."""

import numpy as np
import pytest

from prefopt.config.evaluate import BootstrapConfig
from prefopt.evaluation.accuracy import HeldoutPair
from prefopt.evaluation.groups import GroupVote, group_accuracies, group_votes
from prefopt.evaluation.statistics import Resampling

HOW = Resampling(BootstrapConfig(resamples=200), 0)
SIZES = (8, 8, 0, 0, 8, 8)


def heldout(name: str, winner: str, loser: str) -> HeldoutPair:
    return HeldoutPair(name, f"prompt of {name}", winner, loser, SIZES, SIZES)


def vote(pair: str, label: float, group: str, latest: bool = True) -> dict[str, object]:
    return {"pair_id": pair, "label": label, "group": group, "latest": latest}


def test_votes_are_for_the_winner_or_against_it() -> None:
    pairs = [heldout("p", "a", "b"), heldout("q", "d", "c")]
    rows = [{"pair_id": "p", "image_0": "a"}, {"pair_id": "q", "image_0": "c"}, {"pair_id": "other", "image_0": "e"}]
    given = [
        vote("p", 1.0, "x"),
        vote("p", 0.0, "y"),
        vote("q", 0.0, "x"),
        vote("q", 0.75, "y"),
        vote("p", 0.5, "x"),
        vote("q", 1.0, "x", latest=False),
        vote("other", 1.0, "x"),
    ]
    found = [(one.pair_id, one.group, one.for_winner) for one in group_votes(pairs, rows, given)]
    assert found == [("p", "x", True), ("p", "y", False), ("q", "x", True), ("q", "y", False)]


def votes(group: str, agreeing: int, count: int) -> list[GroupVote]:
    return [GroupVote(f"p{n}", f"prompt {n}", group, n < agreeing) for n in range(count)]


def test_a_minority_loses_what_the_majority_gains() -> None:
    gaps = {f"p{number}": np.array([0.1, 0.2, -0.1]) for number in range(20)}
    majority, minority = group_accuracies([*votes("few", 0, 12), *votes("many", 20, 20)], gaps, HOW)
    assert (majority.group, majority.votes, majority.with_majority) == ("many", 20, 1.0)
    assert (minority.group, minority.votes, minority.with_majority) == ("few", 12, 0.0)
    assert majority.accuracy.value == pytest.approx(2 / 3)
    assert minority.accuracy.value == pytest.approx(1 / 3)
    assert (majority.accuracy.n, minority.accuracy.n) == (60, 36)
    assert majority.p == pytest.approx(2 / 2**20)
    assert minority.adjusted == minority.p == pytest.approx(2 / 2**12)
    assert majority.adjusted == pytest.approx(4 / 2**20)
    assert (majority.outcome(0.95), minority.outcome(0.95)) == ("gains", "loses")


def test_the_verdict_follows_the_prompts_as_its_test_does() -> None:
    """One prompt with many votes outweighs twenty with one each in the mean, and not in the test."""
    against = [GroupVote(f"p{n}", f"prompt {n}", "a", False) for n in range(20)]
    gaps = {**{f"p{n}": np.array([0.1]) for n in range(20)}, "q": np.array([0.1])}
    many = [GroupVote("q", "one prompt", "a", True)] * 60
    (found, _) = group_accuracies([*against, *many, GroupVote("q", "one prompt", "b", True)], gaps, HOW)
    assert found.accuracy.value == pytest.approx(0.75)
    assert (found.won, found.lost, found.outcome(0.95)) == (1, 20, "loses")


def test_few_votes_decide_nothing() -> None:
    gaps = {f"p{number}": np.array([0.1]) for number in range(3)}
    found = group_accuracies([*votes("a", 3, 3), *votes("", 1, 2)], gaps, HOW)
    assert [(one.group, one.outcome(0.95)) for one in found] == [("a", "undecided"), ("", "undecided")]


def test_one_group_is_all_and_has_no_figure_of_its_own() -> None:
    assert group_accuracies(votes("a", 3, 3), {f"p{n}": np.array([0.1]) for n in range(3)}, HOW) == []
    assert group_accuracies([], {}, HOW) == []
