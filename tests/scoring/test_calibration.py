"""Calibration against votes: worked by hand, properties, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from prefopt.data.scales import IsotonicCalibration, PlattCalibration
from prefopt.errors import InputError
from prefopt.scoring.alpha import soft_preference
from prefopt.scoring.calibration import FEWEST, Kind, fit_calibration

KINDS: tuple[Kind, ...] = ("platt", "isotonic")


def votes(slope: float, count: int, seed: int = 0, voters: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gaps, and shares of votes by people whose probability is sigma(slope x gap)."""
    rng = np.random.default_rng(seed)
    gap = rng.normal(size=count)
    return gap, rng.binomial(voters, expit(slope * gap)) / voters


def test_isotonic_by_hand() -> None:
    """Three gaps, 100 pairs each, of which 60, 50 and 90 agree; the first two are pooled to 55 of 100.

    Drawn in: (300 x 0.55 + 1) / 302 and (300 x 0.9 + 1) / 302.
    """
    gap = np.repeat([1.0, 2.0, 4.0], 100)
    share = np.concatenate([np.arange(100) < wins for wins in (60, 50, 90)]).astype(np.float64)
    gap[::2], share[::2] = -gap[::2], 1.0 - share[::2]
    found = fit_calibration("isotonic", gap, share)
    assert isinstance(found, IsotonicCalibration)
    assert found.gap == [0.0, 1.0, 2.0, 4.0]
    assert found.probability == pytest.approx([0.5, 166 / 302, 166 / 302, 271 / 302])
    assert found.pairs == 300
    asked = np.array([0.0, 0.5, 1.5, 3.0, 4.0, 99.0, -3.0])
    middle = (166 + 271) / 604
    wanted = [0.5, 0.5 * (0.5 + 166 / 302), 166 / 302, middle, 271 / 302, 271 / 302, 1.0 - middle]
    assert soft_preference(asked, found).tolist() == pytest.approx(wanted)


def test_platt_by_hand() -> None:
    """One gap of 0.5, 100 pairs, 80 of which agree: sigma(slope / 2) = (100 x 0.8 + 1) / 102."""
    gap = np.where(np.arange(100) % 2 == 0, 0.5, -0.5)
    share = np.where(np.arange(100) < 80, gap > 0, gap < 0).astype(np.float64)
    found = fit_calibration("platt", gap, share)
    assert isinstance(found, PlattCalibration)
    assert found.slope == pytest.approx(2.0 * np.log(81 / 21))


def test_the_slope_has_the_least_log_loss_over_both_orientations() -> None:
    gap, share = votes(1.7, 500, voters=3)
    target = (500 * share + 1) / 502
    x, y = np.concatenate([gap, -gap]), np.concatenate([target, 1 - target])

    def loss(slope: float) -> float:
        return float(np.mean(np.logaddexp(0.0, slope * x) - y * slope * x))

    found = fit_calibration("platt", gap, share)
    assert isinstance(found, PlattCalibration)
    assert found.slope == pytest.approx(minimize_scalar(loss, bounds=(0.0, 20.0), method="bounded").x, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_calibrated_already_hardly_changes(kind: Kind) -> None:
    gap, share = votes(1.0, 40_000)
    asked = np.linspace(-2.0, 2.0, 41)
    change = soft_preference(asked, fit_calibration(kind, gap, share)) - soft_preference(asked)
    assert np.abs(change).max() < (0.01 if kind == "platt" else 0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_of_its_own_is_undone(kind: Kind) -> None:
    """Rewards on the published range give alphas between 0.48 and 0.52 where people agree by 88 %."""
    gap, share = votes(1.0, 20_000)
    found = fit_calibration(kind, gap / 50.0, share)
    assert soft_preference(np.array([2.0 / 50.0]), found)[0] == pytest.approx(expit(2.0), abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 30), slope=st.floats(0.5, 8.0), count=st.integers(420, 600))
def test_symmetric_rising_and_off_the_ends(kind: Kind, seed: int, slope: float, count: int) -> None:
    gap, share = votes(slope, count, seed, voters=2)
    found = fit_calibration(kind, gap, share)
    asked = np.sort(np.concatenate([gap, np.linspace(-9, 9, 50)]))
    alpha = soft_preference(asked, found)
    assert (alpha + soft_preference(-asked, found) == 1.0).all()
    assert (np.diff(alpha) >= 0.0).all()
    assert alpha.min() >= 1.0 / (count + 2) - 1e-12
    mirrored = soft_preference(asked, fit_calibration(kind, -gap, 1.0 - share))
    assert mirrored.tolist() == pytest.approx(alpha.tolist(), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_that_agrees_with_everybody_gives_no_certainty(kind: Kind) -> None:
    gap = np.random.default_rng(0).normal(size=300)
    alpha = soft_preference(gap, fit_calibration(kind, gap, (gap > 0).astype(np.float64)))
    assert 0.0 < alpha.min() < alpha.max() < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_winners_are_refused(kind: Kind) -> None:
    gap, share = votes(2.0, FEWEST[kind] + 20)
    share[:21] = 0.5
    with pytest.raises(
        InputError, match=rf"calibrate {kind} needs {FEWEST[kind]} training pairs .* there are \d+: give"
    ):
        fit_calibration(kind, gap, share)


def test_the_other_kind_is_offered_where_it_would_do() -> None:
    for count, offered in ((100, "platt"), (10, "none")):
        with pytest.raises(InputError, match=rf"set score\.alpha\.calibrate to {offered}\."):
            fit_calibration("isotonic", *votes(2.0, count))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [0, 1])
def test_one_class_alone_is_refused(kind: Kind, side: int) -> None:
    gap, _ = votes(1.0, 400)
    with pytest.raises(InputError, match=rf"in all 400 training pairs .* image_{1 - side}, .* Check the label column"):
        fit_calibration(kind, gap, np.full(400, float(side)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", [-2.0, 0.0])
def test_a_reward_that_people_contradict_is_refused(kind: Kind, slope: float) -> None:
    gap, share = votes(slope, 400)
    with pytest.raises(InputError, match="does not go with more votes"):
        fit_calibration(kind, gap if slope else np.zeros(400), share)
