"""Gain under flipped labels."""

import pytest

from prefopt.lab.analysis.gain import NO_CLEAN, UNCLEAR, gain_lines, kept_at
from prefopt.lab.grid import ACCURACY, MEASURES, WIN_RATE, Grid, Measure
from tests.kit import lab as kit


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.slug)
def test_shares_of_the_clean_gain_hold_what_was_put_in(measure: Measure) -> None:
    lines = {line.method: line for line in gain_lines(Grid.of(kit.drawn(own=0.002)), list(kit.GAINS), "dpo", measure)}
    for method, lost in kit.LOST.items():
        assert lines[method].untold == ""
        for found in lines[method].gains:
            assert found.noise.rate is not None
            assert found.kept is not None
            assert found.kept.value == pytest.approx(1.0 - lost * found.noise.rate, abs=0.03)


def test_gains_are_also_shares_of_the_clean_reference() -> None:
    gains = {"dpo": 0.2, "adaptive_dpo": 0.3}
    grid = Grid.of(kit.drawn(lambda method, noise: gains[method], methods=list(gains), own=0.002))
    for line in gain_lines(grid, list(gains), "dpo", WIN_RATE):
        for found in line.gains:
            assert found.of_reference is not None
            assert found.of_reference.value == pytest.approx(gains[line.method] / 0.2, abs=0.05)


def test_the_share_at_clean_labels_is_all_of_it() -> None:
    grid = Grid.of(kit.drawn())
    kept = kept_at(grid, "dpo", grid.clean, WIN_RATE)
    assert kept is not None
    assert (kept.value, kept.low) == (1.0, None)


def test_pairing_makes_differences_narrower_than_gains() -> None:
    line = gain_lines(Grid.of(kit.drawn(shared=0.1)), ["adaptive_dpo"], "dpo", WIN_RATE)[0]
    for found in line.gains:
        assert found.gain is not None
        assert found.over_reference is not None
        gain, over = found.gain, found.over_reference.estimate
        assert gain.low is not None
        assert gain.high is not None
        assert over.low is not None
        assert over.high is not None
        assert over.high - over.low < 0.5 * (gain.high - gain.low)


def test_the_reference_is_not_compared_with_itself() -> None:
    line = gain_lines(Grid.of(kit.drawn()), ["dpo"], "dpo", ACCURACY)[0]
    assert [found.over_reference for found in line.gains] == [None] * 4


def test_no_share_is_told_of_a_clean_gain_that_is_not_clear() -> None:
    grid = Grid.of(kit.drawn(lambda method, noise: 0.001, methods=["dpo"], shared=0.05))
    line = gain_lines(grid, ["dpo"], "dpo", WIN_RATE)[0]
    assert line.untold == UNCLEAR
    assert {found.kept for found in line.gains} == {None}
    assert all(found.gain for found in line.gains)


def test_no_share_is_told_without_clean_cells() -> None:
    grid = Grid.of(kit.drawn(noises=["flips-20", "flips-30"]))
    line = gain_lines(grid, ["adaptive_dpo"], "dpo", WIN_RATE)[0]
    assert line.untold == NO_CLEAN
    assert [found.kept for found in line.gains] == [None, None]


def test_methods_without_cells_have_no_line() -> None:
    assert gain_lines(Grid.of(kit.drawn(methods=["dpo"])), ["dpo", "kto"], "dpo", WIN_RATE)[1:] == []
