"""Annotators: distances by hand, by groups, and by names alone."""

import numpy as np
import pytest

from prefopt.data.ids import row_rng
from prefopt.drift.chance import Chance, Measured, Unmeasured
from prefopt.drift.people import Voters, annotator_drift, dealt, swapped, total_variation


def test_distances_by_hand() -> None:
    """a gave 3 of 4 known votes and 1 of 2 new ones, b the others. With a swapped: 2/3 against 3/5."""
    kinds = np.array([0, 0, 0, 1, 0, 1])
    new = np.array([0, 0, 0, 0, 1, 1], dtype=bool)
    assert total_variation(np.array([0.75, 0.25]), np.array([0.5, 0.5])) == pytest.approx(0.25)
    found = swapped(kinds, kinds, new, Chance(99))
    assert found[0] == pytest.approx(0.25)
    assert np.unique(found.round(9)) == pytest.approx([1 / 15, 0.25])


def test_votes_dealt_out_by_hand() -> None:
    """Two of three votes for a, one new: it is a's or b's."""
    found = dealt(np.array([0, 0, 1]), np.array([0, 0, 1], dtype=bool), Chance(99))
    assert found[0] == pytest.approx(1.0)
    assert np.unique(found) == pytest.approx([0.5, 1.0])


def voters(shares: tuple[float, float], *, people: int = 30, named: bool = True, grouped: bool = True) -> Voters:
    """200 known votes, 100 new ones; half of the known ones are by group 0, `shares` of the new ones."""
    rng = row_rng(0, "voters")
    groups = np.concatenate([rng.integers(2, size=200), rng.choice(2, size=100, p=shares)])
    who = rng.integers(people, size=300)
    names = [f"{group}/{one}" if named else "" for group, one in zip(groups, who, strict=True)]
    return Voters(names, [f"g{group}" if grouped else "" for group in groups], np.arange(300) >= 200, unseen=0.25)


@pytest.mark.parametrize("named", [True, False])
def test_other_groups_are_found(named: bool) -> None:
    same = annotator_drift(voters((0.5, 0.5), named=named), Chance(199))
    other = annotator_drift(voters((0.9, 0.1), named=named), Chance(199))
    assert isinstance(same, Measured)
    assert isinstance(other, Measured)
    assert same.p > 0.01
    assert same.value < 0.1
    assert other.p == pytest.approx(1 / 200)
    assert other.value == pytest.approx(0.4, abs=0.1)
    assert other.figures["groups"] == 2.0
    assert other.figures["unseen"] == 0.25


def test_one_busy_annotator_is_little_evidence_about_groups() -> None:
    """One person of group 1 gave 30 of 100 new votes."""
    made = voters((0.5, 0.5))
    names, groups = list(made.annotators), list(made.groups)
    names[200:230], groups[200:230] = ["1/0"] * 30, ["g1"] * 30
    found = annotator_drift(Voters(names, groups, made.new, 0.0), Chance(999))
    alone = annotator_drift(Voters([""] * 300, groups, made.new, 0.0), Chance(999))
    assert isinstance(found, Measured)
    assert isinstance(alone, Measured)
    assert found.p > 0.05
    assert alone.p < 0.01


def test_without_groups_names_are_compared_vote_by_vote() -> None:
    found = annotator_drift(voters((1.0, 0.0), grouped=False), Chance(199))
    assert isinstance(found, Measured)
    assert found.p == pytest.approx(1 / 200)
    assert found.figures["groups"] == 0.0
    assert found.figures["distance"] > found.value > 0.15


def test_votes_without_names_are_not_compared() -> None:
    found = annotator_drift(voters((0.5, 0.5), named=False, grouped=False), Chance(99))
    assert isinstance(found, Unmeasured)
    assert found.reason == "no vote names an annotator or a group"
    made = voters((0.5, 0.5), grouped=False)
    few = annotator_drift(Voters([*made.annotators[:210], *[""] * 90], [""] * 300, made.new, 0.0), Chance(99))
    assert isinstance(few, Unmeasured)
    assert few.reason == "there are 10 new votes, and at least 20 are needed"
