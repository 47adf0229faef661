import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prefopt.card.shares import corrected, mean_of_sums, moved, one_sided, share, two_sided


def test_a_share_by_hand() -> None:
    """Wilson at 95 %: centre (8 + 1.92) / (10 + 3.84), half width 1.96 / 13.84 sqrt(1.6 + 0.96)."""
    found = share(8, 10)
    assert found.value == 0.8
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_share_of_nothing() -> None:
    found = share(0, 0)
    assert (found.value, found.low, found.high) == (None, None, None)


@given(st.integers(0, 60), st.integers(0, 60))
def test_two_sided_is_the_exact_test(hits: int, misses: int) -> None:
    n = hits + misses
    expected = stats.binomtest(hits, n).pvalue if n else 1.0
    assert two_sided([hits], [n])[0] == pytest.approx(expected)


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.1, 0.9))
def test_one_sided_is_the_exact_test(hits: int, n: int, rate: float) -> None:
    hits = min(hits, n)
    expected = stats.binomtest(hits, n, rate, alternative="less").pvalue
    assert one_sided([hits], [n], rate)[0] == pytest.approx(expected)


@given(*[st.integers(0, 12)] * 4)
def test_moved_doubles_the_smaller_tail_of_fishers_test(a: int, b: int, c: int, d: int) -> None:
    """Early a of a + b, late c of c + d."""
    if not (a + b and c + d):
        assert moved(([a], [a + b]), ([c], [c + d]))[0] == 1.0
        return
    tails = [stats.fisher_exact([[a, b], [c, d]], alternative=side).pvalue for side in ("less", "greater")]
    assert moved(([a], [a + b]), ([c], [c + d]))[0] == pytest.approx(min(1.0, 2 * min(tails)))


def test_correction_by_hand() -> None:
    """Benjamini and Hochberg: p times the number of tests over its rank, never above a later one."""
    assert corrected(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.04, 0.04])
    assert corrected(np.empty(0)).tolist() == []


def test_a_mean_by_hand() -> None:
    """0, 1, 1: mean 2/3, standard error sqrt(1/3 / 3) = 1/3."""
    found = mean_of_sums(3, 2.0, 2.0)
    assert found.value == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((2 / 3 - 1.96 / 3, 1.0), abs=1e-3)
    assert mean_of_sums(0, 0.0, 0.0).value is None
    assert (mean_of_sums(1, 0.5, 0.25).value, mean_of_sums(1, 0.5, 0.25).low) == (0.5, None)
