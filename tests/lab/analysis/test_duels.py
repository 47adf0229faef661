"""Methods against each other."""

import numpy as np
import pytest

from prefopt.lab.analysis.duels import against, all_duels
from prefopt.lab.grid import ACCURACY, WIN_RATE, Grid
from tests.kit import lab as kit


def test_a_known_lead_is_found_and_its_sign_is_the_firsts() -> None:
    grid = Grid.of(kit.drawn(methods=["adaptive_dpo", "dpo"], noises=["flips-30"]))
    (duel,) = against(grid, "adaptive_dpo", ["adaptive_dpo", "dpo", "absent"], WIN_RATE)
    truth = kit.usual("adaptive_dpo", "flips-30") - kit.usual("dpo", "flips-30")
    assert duel.difference.estimate.value == pytest.approx(truth, abs=0.01)
    assert duel.difference.decided


def test_every_pair_meets_once_at_every_noise() -> None:
    grid = Grid.of(kit.drawn())
    assert len(all_duels(grid, grid.methods, ACCURACY)) == 10 * 5


def test_the_correction_counts_all_duels_of_the_table() -> None:
    grid = Grid.of(kit.drawn(noises=["clean", "flips-10"]))
    duels = all_duels(grid, grid.methods, WIN_RATE)
    smallest = min(duels, key=lambda duel: duel.difference.p or 0.0)
    assert smallest.difference.p is not None
    assert smallest.difference.adjusted == pytest.approx(20 * smallest.difference.p)


def test_equal_methods_are_rarely_told_apart_in_a_whole_table() -> None:
    def one_level(method: str, noise: str) -> float:
        return 0.2

    names, wrong = ["a", "b", "c", "d"], 0
    for entropy in range(40):
        cells = kit.drawn(one_level, methods=names, noises=["clean"], seeds=range(4), own=0.01, entropy=entropy)
        wrong += any(duel.difference.decided for duel in all_duels(Grid.of(cells), names, WIN_RATE))
    assert wrong <= 6


def test_one_seed_decides_nothing() -> None:
    grid = Grid.of(kit.drawn(seeds=[0]))
    duels = all_duels(grid, grid.methods, WIN_RATE)
    assert duels
    assert not any(duel.difference.decided or duel.difference.adjusted for duel in duels)
    assert np.isfinite([duel.difference.estimate.value for duel in duels]).all()
