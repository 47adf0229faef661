"""What each part adds."""

import pytest

from prefopt.lab.analysis.ablation import ablations
from prefopt.lab.grid import ACCURACY, WIN_RATE, Grid
from tests.kit import lab as kit

LEVELS = {"dpo": 0.20, "dpo_ddim": 0.23, "dpo_renoise": 0.23, "smpo": 0.28}


def steps(method: str, noise: str) -> float:
    return LEVELS[method]


def test_each_step_is_compared_with_the_one_before_whatever_a_seed_does_to_all() -> None:
    grid = Grid.of(kit.drawn(steps, methods=list(LEVELS), noises=["clean"], seeds=range(8), shared=0.1, entropy=1))
    (found,) = ablations(grid, list(LEVELS), WIN_RATE)
    assert found.whole
    first, ddim, renoise, smpo = found.steps
    assert first.added is None
    for step, truth in ((ddim, 0.03), (renoise, 0.0), (smpo, 0.05)):
        assert step.added is not None
        assert step.added.estimate.value == pytest.approx(truth, abs=0.006)
        assert step.added.decided is (truth > 0.0)


def test_a_step_without_cells_breaks_the_chain_and_not_the_page() -> None:
    grid = Grid.of(kit.drawn(steps, methods=["dpo", "dpo_ddim", "smpo"], noises=["clean"]))
    (found,) = ablations(grid, list(LEVELS), ACCURACY)
    assert not found.whole
    assert [step.added is not None for step in found.steps] == [False, True, False, False]
    assert found.steps[2].figure is None


def test_a_noise_at_which_no_neighbours_meet_is_left_out() -> None:
    cells = kit.drawn(steps, methods=["dpo"], noises=["clean"]) + kit.drawn(steps, methods=["smpo"], noises=["tastes"])
    assert ablations(Grid.of(cells), ["dpo", "smpo"], WIN_RATE) == []
