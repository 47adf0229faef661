"""Figures of a window: by hand, and against scipy's Wilson interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.health.figures import step_figures, summarise, wilson
from tests.health.test_signals import by_hand
from tests.kit.health import pair_values, signals_of


def test_wilson_by_hand():
    """8 of 10, z = 1.96: centre (0.8 + z^2/20) / (1 + z^2/10), half z sqrt(0.8 0.2/10 + z^2/400) / (1 + z^2/10)."""
    z = 1.959963984540054
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    half = z * math.sqrt(0.8 * 0.2 / 10 + z**2 / 400) / (1 + z**2 / 10)
    found = wilson(8, 10)
    assert found is not None
    assert (found.value, found.n) == (0.8, 10)
    assert found.low == pytest.approx(centre - half)
    assert found.high == pytest.approx(centre + half)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_value_and_turns_around(n, data):
    points = data.draw(st.integers(0, 2 * n)) / 2
    found, other = wilson(points, n), wilson(n - points, n)
    assert found is not None
    assert other is not None
    assert 0.0 <= found.low <= found.high <= 1.0
    assert found.low <= found.value <= found.high
    assert other.low == pytest.approx(1.0 - found.high)


def test_half_points_never_make_an_interval_look_surer():
    """A tie more or less does not push an interval off one half."""
    assert wilson(10.5, 20).low == wilson(10, 20).low
    assert wilson(9.5, 20).high == wilson(10, 20).high


def test_no_share_without_pairs():
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="is not a share"):
        wilson(3, 2)


def test_figures_by_hand():
    window = [
        signals_of(4, by_hand(), grad_norm=1.0),
        signals_of(5, by_hand(), applied=False, grad_norm=math.nan),
        signals_of(6, by_hand(), grad_norm=3.0),
    ]
    found = summarise(window)
    assert (found.first, found.last, found.applied, found.skipped, found.pairs) == (4, 6, 2, 1, 8)
    assert found.loss == pytest.approx(0.25)
    assert found.accuracy.value == pytest.approx(2.5 / 4)
    assert [share and share.value for share in found.accuracy_by_timestep] == [0.5, 0.5, None, None, 1.0]
    assert found.winner_drift == pytest.approx(0.5 / 0.4 - 1)
    assert found.loser_drift == pytest.approx(0.7 / 0.4 - 1)
    assert found.logit_rms == pytest.approx(math.sqrt(27.0 / 4))
    assert (found.saturated, found.opposed) == (0.25, 0.0)
    assert found.gap == pytest.approx(math.sqrt(0.06 / 4) / 0.1)
    assert found.distance == 2.5
    assert (found.grad_norm, found.grad_norm_spread) == (2.0, 0.5)


def test_a_window_of_skipped_steps_knows_nothing_but_their_number():
    found = summarise([signals_of(1, by_hand(), applied=False)])
    assert (found.applied, found.skipped, found.pairs) == (0, 1, 0)
    assert found.accuracy is None
    assert {found.loss, found.winner_drift, found.logit_rms, found.grad_norm, found.distance} == {None}
    with pytest.raises(ValueError, match="needs a step"):
        summarise([])


def test_the_drift_is_the_share_that_errors_rose_by():
    rng = np.random.default_rng(0)
    window = [signals_of(s, pair_values(rng, winner=0.05, loser=0.2)) for s in range(1, 21)]
    found = summarise(window)
    assert found.winner_drift == pytest.approx(0.05, abs=1e-3)
    assert found.loser_drift == pytest.approx(0.2, abs=1e-3)


def test_the_figures_of_a_step():
    assert step_figures(signals_of(1, by_hand())) == {
        "logit_rms": pytest.approx(math.sqrt(27.0 / 4)),
        "saturated": 0.25,
        "opposed": 0.0,
        "winner_drift": pytest.approx(0.25),
        "loser_drift": pytest.approx(0.75),
        "accuracy_by_timestep": [0.5, 0.5, None, None, 1.0],
        "pairs_by_timestep": [2, 1, 0, 0, 1],
    }
