"""Sums over pairs: by hand, and their properties."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.health.signals import SATURATED_LOGIT, Counters, StepSignals, count_pairs, step_signals, total
from tests.kit.health import BUCKETS, TIMESTEPS, pair_values, signals_of


def by_hand():
    """Four pairs: won, lost, tied, and won by far."""
    return {
        "loss": np.array([0.1, 0.2, 0.3, 0.4]),
        "logit": np.array([1.0, -1.0, 0.0, 5.0]),
        "timestep": np.array([0.0, 199.0, 200.0, 999.0]),
        "error_w": np.array([0.1, 0.2, 0.1, 0.1]),
        "error_l": np.array([0.2, 0.1, 0.1, 0.3]),
        "reference_w": np.array([0.1, 0.1, 0.1, 0.1]),
        "reference_l": np.array([0.1, 0.1, 0.1, 0.1]),
        "distance": np.array([1.0, 2.0, 3.0, 4.0]),
    }


def test_sums_by_hand():
    found = count_pairs(by_hand(), buckets=5, num_timesteps=1000)
    assert (found.pairs, found.broken, found.judged, found.referenced, found.measured) == (4, 0, 4, 4, 4)
    assert found.loss == pytest.approx(1.0)
    assert found.correct == (1.0, 0.5, 0.0, 0.0, 1.0)
    assert found.counted == (2, 1, 0, 0, 1)
    assert found.logit_squares == pytest.approx(1.0 + 1.0 + 0.0 + 25.0)
    assert (found.saturated, found.opposed) == (1, 0)
    assert (found.error_w, found.error_l) == (pytest.approx(0.5), pytest.approx(0.7))
    assert (found.reference_w, found.reference_l) == (pytest.approx(0.4), pytest.approx(0.4))
    assert found.gap_squares == pytest.approx(0.1**2 + 0.1**2 + 0.0 + 0.2**2)
    assert found.distance == 10.0
    assert found.plain_loss == pytest.approx(sum(math.log1p(math.exp(-x)) for x in (1.0, -1.0, 0.0, 5.0)))


def test_a_saturated_pair_has_a_twentieth_of_the_slope():
    slope = 1.0 / (1.0 + math.exp(SATURATED_LOGIT))
    assert slope / 0.5 == pytest.approx(0.05)


def test_a_negative_factor_turns_a_pair_around():
    """SmPO prefers the loser of the label where its factor is negative: winner and loser change places."""
    values = by_hand() | {"factor": np.array([-2.0, 1.0, 1.0, 1.0])}
    found = count_pairs(values, 5, 1000)
    assert found.correct == (0.0, 0.5, 0.0, 0.0, 1.0)
    assert found.logit_squares == pytest.approx(4.0 + 1.0 + 25.0)
    assert found.error_w == pytest.approx(0.2 + 0.2 + 0.1 + 0.1)
    assert found.error_l == pytest.approx(0.1 + 0.1 + 0.1 + 0.3)


def test_a_margin_moves_the_logit_but_not_the_accuracy():
    values = by_hand() | {"margin": np.array([2.0, 0.0, 0.0, 2.0])}
    found = count_pairs(values, 5, 1000)
    assert found.correct == count_pairs(by_hand(), 5, 1000).correct
    assert found.logit_squares == pytest.approx(1.0 + 1.0 + 0.0 + 9.0)
    assert found.saturated == 0


def test_pairs_that_are_not_finite_count_alone():
    values = by_hand()
    values["error_w"] = np.array([np.nan, 0.2, 0.1, np.inf])
    found = count_pairs(values, 5, 1000)
    assert (found.pairs, found.broken) == (2, 2)
    assert found.loss == pytest.approx(0.5)
    assert all(math.isfinite(value) for value in asdict(found).values() if isinstance(value, float))


def test_without_a_reference_there_are_no_drifts():
    found = count_pairs({"loss": np.ones(3), "timestep": np.zeros(3), "distance": np.zeros(3)}, 5, 1000)
    assert (found.pairs, found.referenced, found.judged, found.counted) == (3, 0, 0, ())


def test_a_skipped_step_counts_no_pair():
    found = step_signals(7, by_hand(), applied=False, grad_norm=math.inf, buckets=5, num_timesteps=1000)
    assert found == StepSignals(7, False, None, Counters())


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_sums_add_up(seed, first, second):
    """Two batches give what both together give."""
    rng = np.random.default_rng(seed)
    one, two = (pair_values(rng, pairs=n, winner=0.01, loser=0.02) for n in (first, second))
    both = {name: np.concatenate([one[name], two[name]]) for name in one}
    added = count_pairs(one, BUCKETS, TIMESTEPS) + count_pairs(two, BUCKETS, TIMESTEPS)
    whole = count_pairs(both, BUCKETS, TIMESTEPS)
    for name, value in asdict(whole).items():
        assert getattr(added, name) == pytest.approx(value), name


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_pairs_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    values = pair_values(rng, winner=0.01, loser=0.0)
    order = rng.permutation(32)
    mixed = {name: value[order] for name, value in values.items()}
    first, second = count_pairs(values, BUCKETS, TIMESTEPS), count_pairs(mixed, BUCKETS, TIMESTEPS)
    for name, value in asdict(first).items():
        assert getattr(second, name) == pytest.approx(value), name


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_signals_survive_json_exactly(seed, applied):
    values = pair_values(np.random.default_rng(seed), winner=0.01, loser=0.0)
    signals = signals_of(3, values, applied=applied, grad_norm=0.1)
    assert StepSignals.from_json(json.loads(json.dumps(signals.as_json(), allow_nan=False))) == signals


def test_the_sums_of_nothing_are_nothing():
    assert total([]) == Counters()
    values = by_hand()
    assert total([signals_of(1, values), signals_of(2, values, applied=False)]) == count_pairs(values, 5, 1000)
