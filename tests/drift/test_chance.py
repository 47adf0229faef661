"""How rows are dealt out anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.drift.chance import LEAST, Chance, Units, beyond_chance, chance_p, shuffles, too_few, units_of


def test_a_prompt_of_one_side_is_a_unit_and_one_of_both_is_a_stratum() -> None:
    units = units_of(["x", "x", "y", "y", "z"], ["1", "2", "3", "4", "5"], np.array([0, 0, 1, 0, 1], dtype=bool))
    assert units.of_row.tolist() == [0, 0, 2, 3, 1]
    assert units.new.tolist() == [False, True, True, False]
    x, z, *y = units.stratum.tolist()
    assert x == z == 0
    assert y[0] == y[1] != 0


def test_votes_of_a_pair_stay_together() -> None:
    units = units_of(["x"] * 4, ["1", "1", "2", "2"], np.array([0, 0, 1, 1], dtype=bool))
    assert units.of_row.tolist() == [0, 0, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30), st.integers(0, 3))
def test_chance_keeps_the_number_of_new_units_in_each_stratum(rows: list[tuple[int, bool]], seed: int) -> None:
    stratum, new = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    dealt = shuffles(Units(np.arange(len(rows)), new, stratum), Chance(20, seed), "any")
    assert dealt.shape == (21, len(rows))
    assert (dealt[0] == new).all()
    for one in range(5):
        assert (dealt[:, stratum == one].sum(axis=1) == new[stratum == one].sum()).all()


def test_every_way_to_deal_is_as_likely() -> None:
    units = Units(np.arange(4), np.array([1, 1, 0, 0], dtype=bool), np.zeros(4, dtype=np.intp))
    dealt = shuffles(units, Chance(6000), "any")[1:]
    ways, counts = np.unique(dealt, axis=0, return_counts=True)
    assert len(ways) == 6
    assert counts == pytest.approx(1000, abs=120)


def test_p_and_excess_by_hand() -> None:
    assert chance_p(np.array([3.0, 1.0, 2.0, 3.0, 4.0])) == pytest.approx(3 / 5)
    assert chance_p(np.array([5.0, 1.0, 2.0, 3.0])) == pytest.approx(1 / 4)
    assert chance_p(np.array([0.3, 0.1 + 0.2, 0.0])) == pytest.approx(2 / 3)
    assert beyond_chance(np.array([3.0, 1.0, 2.0])) == pytest.approx(1.5)
    assert beyond_chance(np.array([1.0, 1.0, 2.0])) == 0.0


def test_few_rows_are_told() -> None:
    assert too_few("prompts", LEAST, LEAST) is None
    missing = too_few("prompts", 500, LEAST - 1)
    assert missing is not None
    assert missing.reason == "there are 19 new prompts, and at least 20 are needed"
    assert (missing.known, missing.new) == (500, 19)
