"""Outcomes by method, noise and seed."""

import pytest

from prefopt.config.lab_page import AnalysisConfig
from prefopt.errors import InputError
from prefopt.lab.grid import WIN_RATE, Grid, Place
from tests.kit import lab as kit


def test_noises_go_from_clean_labels_upwards_and_other_kinds_follow() -> None:
    grid = Grid.of(reversed(kit.drawn()))
    assert [noise.name for noise in grid.noises] == ["clean", "flips-10", "flips-20", "flips-30", "tastes"]
    assert grid.clean == ("clean", 0.0)
    assert [noise.name for noise in grid.unrated] == ["tastes"]
    assert grid.flips(0.1 + 0.2) == ("flips-30", 0.3)
    assert grid.flips(0.25) is None


def test_tuning_cells_are_no_cells_of_the_grid() -> None:
    grid = Grid.of([kit.outcome("dpo", "clean", 0), kit.outcome("ipo", "flips-20", 5, candidate=0)])
    assert (grid.methods, grid.seeds) == (("dpo",), (0,))


@pytest.mark.parametrize("candidate", [None, 2])
def test_a_cell_that_stands_twice_is_refused_with_both_keys(candidate: int | None) -> None:
    twice = [kit.outcome("dpo", "clean", 3, key=key, candidate=candidate) for key in ("old", "new")]
    with pytest.raises(InputError, match=r"dpo, noise clean, seed 3.*keys old and new"):
        Grid.of(twice)


def test_two_noises_of_one_rate_are_refused() -> None:
    with pytest.raises(InputError, match=r"flips and turned both flip a share of 0\.2"):
        Grid.of([kit.outcome("dpo", "flips", 0, rate=0.2), kit.outcome("dpo", "turned", 0, rate=0.2)])


def test_one_noise_of_two_rates_is_refused() -> None:
    with pytest.raises(InputError, match="flips has several rates"):
        Grid.of([kit.outcome("dpo", "flips", 0, rate=0.2), kit.outcome("dpo", "flips", 1, rate=0.3)])


def test_seeds_without_a_figure_are_left_out() -> None:
    cells = [kit.outcome("dpo", "clean", seed, accuracy=accuracy) for seed, accuracy in enumerate((0.6, None, 0.7))]
    grid = Grid.of(cells)
    assert grid.values("dpo", grid.clean, lambda one: one.accuracy) == {0: 0.6, 2: 0.7}
    assert grid.values("dpo", None, WIN_RATE.of) == {}


def test_methods_that_stand_for_a_step_or_a_length_stay_out_of_the_tables_of_noise() -> None:
    grid = Grid.of(kit.outcome(name, "clean", 0) for name in ("zeta", "dpo", "dpo_ddim", "dpo-20", "smpo", "kto"))
    asked = AnalysisConfig(
        ablation=("dpo", "dpo_ddim", "smpo"), families={"dpo": ("dpo-20", "dpo"), "smpo": ("smpo-20", "smpo")}
    )
    assert grid.shown(asked) == ["dpo", "kto", "zeta"]
    assert grid.shown(asked.model_copy(update={"methods": ("smpo", "absent", "dpo")})) == ["smpo", "dpo"]


def test_planned_cells_without_an_outcome_are_missing() -> None:
    lost = Place("dpo", "flips-20", 3)
    every = [Place(one.method, one.noise, one.seed) for one in kit.drawn()]
    grid = Grid.of(one for one in kit.drawn() if Place(one.method, one.noise, one.seed) != lost)
    never = Place("kto", "clean", 0)
    assert grid.missing([*every, never]) == [lost, never]
