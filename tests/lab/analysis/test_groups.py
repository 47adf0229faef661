"""Groups of annotators."""

import pytest

from prefopt.lab.analysis.groups import group_tables
from prefopt.lab.grid import Grid
from tests.kit import lab as kit


def test_a_table_for_each_noise_that_is_no_random_flip() -> None:
    grid = Grid.of(kit.drawn())
    (table,) = group_tables(grid, list(kit.GAINS), "dpo")
    assert (table.noise.name, table.groups, table.rewards) == (
        "tastes",
        ["classic", "modern"],
        ["world/true", "world/style"],
    )
    assert [row.method for row in table.rows] == list(kit.GAINS)


def test_who_gains_and_who_loses_is_told_by_group() -> None:
    grid = Grid.of(kit.drawn())
    (table,) = group_tables(grid, ["dpo", "adaptive_dpo"], "dpo")
    dpo, adaptive = table.rows
    classic, modern = adaptive.over_reference
    assert dpo.over_reference == [None, None]
    assert classic is not None
    assert modern is not None
    lead = kit.usual("adaptive_dpo", "tastes") - kit.usual("dpo", "tastes")
    assert modern.estimate.value == pytest.approx(0.5 * lead, abs=0.005)
    assert classic.estimate.value == pytest.approx(-0.05 * lead, abs=0.001)


def test_a_group_that_a_seed_lacks_is_averaged_over_the_others() -> None:
    with_group = kit.outcome("dpo", "tastes", 0, accuracy_by_group={"classic": 0.6})
    grid = Grid.of([with_group, kit.outcome("dpo", "tastes", 1)])
    (found,) = group_tables(grid, ["dpo"], "dpo")[0].rows[0].by_group
    assert found is not None
    assert (found.value, found.n) == (0.6, 1)


def test_flips_alone_have_no_table() -> None:
    assert group_tables(Grid.of(kit.drawn(noises=["clean", "flips-20"])), list(kit.GAINS), "dpo") == []
