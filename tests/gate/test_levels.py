"""Levels of nightly tests: by hand, and the error rate that they are there for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.gate.levels import level, share


def test_shares_fall_and_sum_up_to_one() -> None:
    shares = [share(night) for night in range(1, 10_001)]
    assert math.fsum(shares) == pytest.approx(1.0)
    assert all(first >= second for first, second in itertools.pairwise(shares[1:]))
    assert share(0) == share(10_001) == 0.0
    assert share(1) / share(2) == pytest.approx(2 * math.exp(math.sqrt(math.log(2))))


def test_levels_by_hand() -> None:
    assert level(1, [], 0.1) == pytest.approx(0.05 * share(1))
    assert level(3, [2], 0.1) == pytest.approx(0.05 * share(3) + 0.05 * share(1))
    assert level(5, [2, 4], 0.1) == pytest.approx(0.05 * share(5) + 0.05 * share(3) + 0.1 * share(1))
    assert level(5, [2, 4], 0.1, wealth=0.02) == pytest.approx(0.02 * share(5) + 0.08 * share(3) + 0.1 * share(1))


@pytest.mark.parametrize(
    ("night", "promotions", "alpha", "wealth"),
    [
        (0, [], 0.1, None),
        (3, [3], 0.1, None),
        (5, [3, 2], 0.1, None),
        (5, [2, 2], 0.1, None),
        (5, [], 0.1, 0.2),
        (5, [], 1.0, None),
    ],
)
def test_what_makes_no_sense_is_refused(night: int, promotions: list[int], alpha: float, wealth: float | None) -> None:
    with pytest.raises(ValueError, match="must"):
        level(night, promotions, alpha, wealth)


@given(st.sets(st.integers(1, 40)), st.floats(0.01, 0.5))
def test_all_levels_together_stay_within_what_was_earned(promotions: set[int], alpha: float) -> None:
    """The estimate of the false discovery proportion that LORD++ holds below alpha."""
    spent = math.fsum(level(night, sorted(n for n in promotions if n < night), alpha) for night in range(1, 41))
    assert spent <= alpha * max(1, len(promotions)) + 1e-12


def test_few_promotions_are_chance() -> None:
    """300 simulated years of nights; on a third of them the challenger is truly better."""
    rng, alpha, proportions = np.random.default_rng(0), 0.1, []
    for _ in range(300):
        promoted: list[int] = []
        false = 0
        for night in range(1, 101):
            better = rng.random() < 1 / 3
            p = rng.random() if not better else rng.beta(0.1, 4.0)
            if p <= level(night, promoted, alpha):
                promoted.append(night)
                false += not better
        proportions.append(false / max(1, len(promoted)))
    assert np.mean(proportions) <= alpha
    assert np.mean(proportions) > 0.0  # some are: the bound is not met by never promoting
