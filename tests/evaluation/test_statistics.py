import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.evaluate import BootstrapConfig
from prefopt.evaluation.statistics import (
    Resampling,
    auroc,
    auroc_estimate,
    mean_estimate,
    roc_points,
    win_points,
)

HOW = Resampling(BootstrapConfig(resamples=400), seed=0)
scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


def test_win_points_by_hand():
    tuned, base = [2.0, 1.0, 3.0, 0.0], [1.0, 1.0, 4.0, -1.0]
    assert win_points(tuned, base, "half").tolist() == [1.0, 0.5, 0.0, 1.0]
    assert win_points(tuned, base, "nobody").tolist() == [1.0, 0.0, 0.0, 1.0]


@given(scores, st.randoms(use_true_random=False))
def test_half_rates_of_both_models_add_up_to_one_and_nobody_leaves_the_ties_out(first, random):
    second = [random.randint(-3, 3) for _ in first]
    half = win_points(first, second, "half") + win_points(second, first, "half")
    assert (half == 1.0).all()
    nobody = win_points(first, second, "nobody") + win_points(second, first, "nobody")
    assert nobody.tolist() == [float(a != b) for a, b in zip(first, second, strict=True)]


def test_mean_estimate_by_hand_on_unequal_clusters():
    found = mean_estimate([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], HOW, "x")
    assert (found.value, found.n) == (0.75, 4)
    assert (found.low, found.high) == (0.0, 1.0)  # a quarter of the resamples holds one cluster alone, either way


def test_an_interval_is_a_function_of_seed_and_name():
    values, clusters = np.arange(20) % 3, np.arange(20) // 2
    first = mean_estimate(values, clusters, HOW, "x")
    assert first == mean_estimate(values, clusters, HOW, "x")
    assert first != mean_estimate(values, clusters, Resampling(HOW.bootstrap, 1), "x")
    assert first.low <= first.value <= first.high


def test_an_interval_does_not_depend_on_the_order_of_rows():
    values, clusters = np.arange(20) % 3, np.arange(20) // 2
    order = np.random.default_rng(0).permutation(20)
    assert mean_estimate(values[order], clusters[order], HOW, "x") == mean_estimate(values, clusters, HOW, "x")


def test_one_cluster_has_no_interval():
    found = mean_estimate([1.0, 0.0], ["a", "a"], HOW, "x")
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        mean_estimate([], [], HOW, "x")


def test_auroc_by_hand():
    # pairs (positive, negative): (2, 1) right, (2, 3) wrong, (3, 1) right, (3, 3) tie
    assert auroc([2.0, 3.0, 1.0, 3.0], [True, True, False, False]) == 2.5 / 4


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_share_of_ordered_pairs_and_the_area_under_the_curve(rows):
    values, truth = np.array([v for v, _ in rows], float), np.array([t for _, t in rows])
    if truth.all() or not truth.any():
        with pytest.raises(ValueError, match="positive"):
            auroc(values, truth)
        return
    gaps = values[truth][:, None] - values[~truth][None]
    value = auroc(values, truth)
    assert value == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    assert auroc(-values, truth) == pytest.approx(1.0 - value)
    fpr, tpr, thresholds = roc_points(values, truth)
    assert (np.diff(thresholds) < 0).all()
    assert fpr == pytest.approx([np.mean(values[~truth] >= threshold) for threshold in thresholds])
    assert tpr == pytest.approx([np.mean(values[truth] >= threshold) for threshold in thresholds])
    assert np.trapezoid(tpr, fpr) == pytest.approx(value)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()


def test_a_long_roc_curve_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.3
    values = rng.normal(size=5000) + truth
    fpr, tpr, thresholds = roc_points(values, truth, most=100)
    assert len(fpr) == len(tpr) == len(thresholds) == 100
    assert (fpr[0], tpr[-1]) == (0.0, 1.0)
    assert (thresholds[0], thresholds[-1]) == (values.max() + 1.0, values.min())
    assert fpr == pytest.approx([np.mean(values[~truth] >= threshold) for threshold in thresholds])


def test_a_roc_curve_by_hand():
    points = roc_points([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
    assert [column.tolist() for column in points] == [[0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0], [1.9, 0.9, 0.4, 0.1]]
    with pytest.raises(ValueError, match="finite"):
        roc_points([np.inf, 0.0], [True, False])


def test_auroc_interval_resamples_clusters():
    rng = np.random.default_rng(1)
    truth = np.arange(200) % 2 == 0
    values = rng.normal(size=200) + truth
    lone = auroc_estimate(values, truth, np.arange(200), HOW, "x")
    # every row five times over: the same information, so nearly the same interval if clusters are respected
    copied = auroc_estimate(np.repeat(values, 5), np.repeat(truth, 5), np.repeat(np.arange(200), 5), HOW, "x")
    assert copied.value == pytest.approx(lone.value)
    assert copied.low == pytest.approx(lone.low)
    assert copied.high == pytest.approx(lone.high)
    assert lone.low < lone.value < lone.high


def test_auroc_interval_survives_resamples_without_a_positive():
    found = auroc_estimate([3.0, 1.0, 2.0], [True, False, False], ["a", "b", "c"], HOW, "x")
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def coverage(estimate, truth, trials=300):
    hits = 0
    for trial in range(trials):
        found = estimate(np.random.default_rng(trial))
        hits += found.low <= truth <= found.high
    return hits / trials


def test_mean_interval_covers_the_truth_at_about_its_nominal_rate_on_clustered_data():
    def estimate(rng):
        rate = rng.beta(3.0, 2.0, size=60)  # every prompt has its own win rate, of mean 0.6
        wins = rng.random((60, 4)) < rate[:, None]
        return mean_estimate(wins.ravel(), np.repeat(np.arange(60), 4), HOW, "x")

    assert 0.90 <= coverage(estimate, 0.6) <= 0.985


def test_resampling_rows_instead_of_clusters_would_cover_too_rarely():
    def estimate(rng):
        wins = np.repeat(rng.random(60) < 0.6, 4)
        return mean_estimate(wins, np.arange(240), HOW, "x")

    assert coverage(estimate, 0.6) < 0.80


def test_auroc_interval_covers_the_truth_at_about_its_nominal_rate():
    def estimate(rng):
        truth = rng.random(150) < 0.4
        return auroc_estimate(rng.normal(size=150) + truth, truth, np.arange(150), HOW, "x")

    assert 0.90 <= coverage(estimate, 0.7602, trials=150) <= 0.99  # Phi(1 / sqrt(2))
