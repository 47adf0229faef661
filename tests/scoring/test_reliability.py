"""Reliability: worked by hand, and what it does not depend on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from prefopt.scoring.reliability import Reliability, measure_reliability


def test_figures_by_hand() -> None:
    """Two pairs at 0.6 (one of them as 0.4), of which one agrees; two at 0.9, both agree."""
    found = measure_reliability(np.array([0.6, 0.4, 0.9, 0.9]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert found is not None
    first, second = found.bins
    assert (first.pairs, first.alpha, first.share) == (2, pytest.approx(0.6), 0.5)
    assert (second.pairs, second.alpha, second.share) == (2, pytest.approx(0.9), 1.0)
    assert found.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)
    assert found.brier == pytest.approx((0.4**2 + 0.6**2 + 2 * 0.1**2) / 4)
    assert found.log_loss == pytest.approx(-(math.log(0.6) + math.log(0.4) + 2 * math.log(0.9)) / 4)
    interval = binomtest(2, 2).proportion_ci(method="wilson")
    assert (second.low, second.high) == pytest.approx((interval.low, interval.high))


def test_a_share_of_several_votes_is_a_label_between() -> None:
    found = measure_reliability(np.array([0.75]), np.array([2 / 3]))
    assert found is not None
    assert found.brier == pytest.approx((0.75 - 2 / 3) ** 2)
    assert found.bins[0].share == pytest.approx(2 / 3)


def test_nothing_measured_is_nothing() -> None:
    assert measure_reliability(np.array([]), np.array([])) is None


def test_always_one_half_has_the_log_loss_of_a_coin_and_no_error() -> None:
    found = measure_reliability(np.full(50, 0.5), (np.arange(50) % 3 == 0).astype(np.float64))
    assert found is not None
    assert len(found.bins) == 1
    assert (found.ece, found.log_loss) == (0.0, pytest.approx(math.log(2.0)))


@given(st.integers(0, 50), st.integers(1, 60))
def test_which_image_is_called_image_0_changes_nothing(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    alpha, share = rng.integers(5, 11, count) / 10.0, rng.integers(0, 5, count) / 4.0
    turned = rng.random(count) < 0.5
    first = measure_reliability(alpha, share)
    second = measure_reliability(np.where(turned, 1.0 - alpha, alpha), np.where(turned, 1.0 - share, share))
    assert first == second


@given(st.integers(0, 50), st.integers(1, 200))
def test_every_pair_is_in_one_bin_and_bins_are_in_order(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    found = measure_reliability(rng.random(count).round(1), rng.integers(0, 2, count).astype(np.float64))
    assert found is not None
    assert sum(part.pairs for part in found.bins) == count
    ends = [end for part in found.bins for end in (part.least, part.most)]
    assert ends == sorted(ends)
    assert all(part.least <= part.alpha + 1e-12 and part.alpha <= part.most + 1e-12 for part in found.bins)
    assert all(part.low <= part.share <= part.high for part in found.bins)


def test_an_honest_alpha_has_a_small_error_and_a_timid_one_a_large() -> None:
    rng = np.random.default_rng(3)
    gap = 2.0 * rng.normal(size=20_000)
    share = (rng.random(20_000) < expit(gap)).astype(np.float64)
    honest, timid = measure_reliability(expit(gap), share), measure_reliability(expit(gap / 50.0), share)
    assert honest is not None
    assert timid is not None
    assert honest.ece < 0.01
    assert timid.ece > 0.2
    assert honest.brier < timid.brier
    assert honest.log_loss < timid.log_loss


def test_the_file_is_read_back() -> None:
    figures = measure_reliability(np.array([0.6, 0.3]), np.array([1.0, 0.0]))
    made = Reliability(pairs=2, calibrate="none", before=figures, after=None)
    assert Reliability.model_validate_json(made.model_dump_json()) == made
