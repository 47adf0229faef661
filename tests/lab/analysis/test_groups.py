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
    assert (found.accuracy.value, found.accuracy.n, found.moved) == (0.6, 1, "")


def test_groups_that_gain_and_lose_are_told_in_words() -> None:
    (table,) = group_tables(Grid.of(kit.drawn()), list(kit.GAINS), "dpo")
    assert [[found.moved for found in row.by_group if found] for row in table.rows] == [["loses", "gains"]] * 5


def test_a_gain_that_one_test_shows_is_not_told_among_many() -> None:
    """p is 0.046: enough alone, not after the correction over nine other groups."""
    accuracies = (0.51, 0.52, 0.54, 0.55)
    others = {f"group {number}": 0.5 for number in range(9)}

    def told(more: dict[str, float]) -> str:
        cells = [
            kit.outcome(
                "dpo",
                "tastes",
                seed,
                accuracy_by_group={"classic": accuracy}
                | {name: value + 0.01 * (-1) ** seed for name, value in more.items()},
            )
            for seed, accuracy in enumerate(accuracies)
        ]
        (row,) = group_tables(Grid.of(cells), ["dpo"], "dpo")[0].rows
        found = row.by_group[0]
        assert found is not None
        return found.moved

    assert told({}) == "gains"
    assert told(others) == ""


def test_flips_alone_have_no_table() -> None:
    assert group_tables(Grid.of(kit.drawn(noises=["clean", "flips-20"])), list(kit.GAINS), "dpo") == []
