"""Means, differences and ratios over seeds."""

import numpy as np
import pytest
from scipy import stats

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.statistics import corrected, difference, geometric_mean, mean, ratio

TRIALS = 2000
NOMINAL = (0.93, 0.97)
"""Of 2,000 intervals at 95 %, four standard errors about."""


def seeded(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def holds(found: Estimate | None, truth: float) -> bool:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def test_a_mean_and_its_interval_by_hand() -> None:
    found = mean({0: 1.0, 1: 2.0, 2: 3.0})
    assert found is not None
    assert (found.value, found.n) == (2.0, 3)
    assert found.high == pytest.approx(2.0 + 4.302653 / np.sqrt(3.0))
    assert found.low == pytest.approx(2.0 - 4.302653 / np.sqrt(3.0))


def test_intervals_of_a_mean_hold_the_truth_at_their_level() -> None:
    rng = np.random.default_rng(1)
    hits = sum(holds(mean(seeded(rng.normal(0.7, 0.1, size=4))), 0.7) for _ in range(TRIALS))
    assert NOMINAL[0] < hits / TRIALS < NOMINAL[1]


def test_intervals_of_a_ratio_hold_the_truth_at_their_level() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(TRIALS):
        luck = rng.normal(0.0, 0.02, size=5)
        whole = 0.3 + luck + rng.normal(0.0, 0.02, size=5)
        part = 0.24 + luck + rng.normal(0.0, 0.02, size=5)
        hits += holds(ratio(seeded(part), seeded(whole)), 0.8)
    assert NOMINAL[0] < hits / TRIALS < NOMINAL[1]


def test_the_ends_of_a_ratio_are_where_the_t_test_turns() -> None:
    rng = np.random.default_rng(3)
    whole, part = rng.normal(0.3, 0.03, size=6), rng.normal(0.2, 0.03, size=6)
    found = ratio(seeded(part), seeded(whole))
    assert found is not None
    for end in (found.low, found.high):
        assert end is not None
        assert stats.ttest_1samp(part - end * whole, 0.0).pvalue == pytest.approx(0.05)


def test_pairing_takes_out_what_a_seed_does_to_both() -> None:
    rng = np.random.default_rng(4)
    luck = rng.normal(0.0, 1.0, size=6)
    first, second = 0.1 + luck + rng.normal(0.0, 0.01, size=6), luck + rng.normal(0.0, 0.01, size=6)
    paired = difference(seeded(first), seeded(second))
    shuffled = difference(seeded(first), seeded(np.roll(second, 1)))
    assert paired is not None
    assert shuffled is not None
    assert paired.p is not None
    assert shuffled.p is not None
    assert paired.p < 1e-4 < 0.1 < shuffled.p
    assert holds(paired.estimate, 0.1)
    assert paired.p == pytest.approx(float(stats.ttest_rel(first, second).pvalue))


def test_only_seeds_of_both_are_compared() -> None:
    found = difference({0: 1.0, 1: 2.0, 2: 9.0}, {1: 1.5, 0: 0.2, 7: 0.0})
    assert found is not None
    assert found.estimate.n == 2
    assert found.estimate.value == pytest.approx(0.65)
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_without_spread_there_is_no_interval_and_no_p() -> None:
    assert mean({}) is None
    assert mean({3: 0.4}) == Estimate(0.4, None, None, 1)
    assert mean({0: 0.1 + 0.2, 1: 0.3}) == Estimate(pytest.approx(0.3), None, None, 2)
    found = difference({0: 0.5, 1: 0.6}, {0: 0.4, 1: 0.5})
    assert found is not None
    assert (found.estimate.low, found.p) == (None, None)


def test_a_difference_is_decided_by_the_corrected_test_alone() -> None:
    base = {0: 0.5, 1: 0.6, 2: 0.7}
    same, none, one, clear, unclear = (
        difference({seed: base[seed] + more for seed, more in enumerate(added)}, base)
        for added in ([0.1] * 3, [0.0] * 3, [0.1], [0.10, 0.11, 0.12], [0.1, 0.3, -0.2])
    )
    found = [made for made in (same, none, one, clear, unclear) if made]
    assert not any(made.decided for made in found)
    assert [made.decided for made in corrected(found)] == [False, False, False, True, False]
    assert [made.adjusted is None for made in corrected(found)] == [True, True, True, False, False]


def test_a_correction_counts_what_was_tested() -> None:
    clear = difference({0: 0.10, 1: 0.11, 2: 0.12}, dict.fromkeys(range(3), 0.0))
    assert clear is not None
    assert clear.p is not None
    same = difference(dict.fromkeys(range(3), 0.1), dict.fromkeys(range(3), 0.0))
    assert same is not None
    (first, _, _, _) = corrected([clear, same, clear, clear])
    assert first.adjusted == pytest.approx(3 * clear.p)


def test_a_whole_that_may_be_nothing_has_no_shares() -> None:
    part = {0: 0.1, 1: 0.12, 2: 0.09}
    assert ratio(part, {0: 0.3, 1: -0.2, 2: 0.1}) is None
    assert ratio(part, {0: -0.3, 1: -0.31, 2: -0.29}) is None
    assert ratio(part, {}) is None
    assert ratio({0: 0.1}, {0: 0.2}) == Estimate(0.5, None, None, 1)


def test_a_geometric_mean_is_the_same_for_shares_and_their_inverses() -> None:
    shares = {0: 0.2, 1: 0.3, 2: 0.25}
    found, inverse = geometric_mean(shares), geometric_mean({seed: 1.0 / share for seed, share in shares.items()})
    assert found is not None
    assert inverse is not None
    assert inverse.low is not None
    assert found.value == pytest.approx(1.0 / inverse.value)
    assert found.high == pytest.approx(1.0 / inverse.low)
