"""The share of minority labels by flip rate."""

import pytest

from prefopt.lab.analysis.minority import minority_shares
from prefopt.lab.grid import Grid
from tests.kit import lab as kit


def test_the_rule_is_met_by_labels_that_follow_it() -> None:
    found = minority_shares(Grid.of(kit.drawn()), "dpo")
    assert [row.measured.value for row in found] == pytest.approx([0.15, 0.22, 0.29, 0.36])
    assert [row.largest for row in found] == pytest.approx([0.0] * 4, abs=1e-12)


def test_each_seed_is_held_against_its_own_clean_share() -> None:
    clean = {0: 0.10, 1: 0.20}
    cells = [
        kit.outcome("dpo", noise, seed, minority=kit.minority(rate, clean[seed]) + extra)
        for seed in clean
        for noise, rate, extra in (("clean", 0.0, 0), ("flips-20", 0.2, 10 * seed))
    ]
    row = minority_shares(Grid.of(cells), "dpo")[1]
    assert row.expected is not None
    assert row.off is not None
    assert row.expected.value == pytest.approx((0.26 + 0.32) / 2)
    assert row.off.estimate.value == pytest.approx(0.005)
    assert row.largest == pytest.approx(0.010)


def test_without_clean_cells_there_is_nothing_to_expect() -> None:
    (row,) = minority_shares(Grid.of(kit.drawn(noises=["flips-20"])), "dpo")
    assert (row.expected, row.off, row.largest) == (None, None, None)


def test_labels_of_unknown_majority_have_no_row() -> None:
    assert minority_shares(Grid.of([kit.outcome("dpo", "clean", 0, minority=None)]), "dpo") == []
