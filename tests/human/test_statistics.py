import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.evaluate import BootstrapConfig
from prefopt.evaluation.statistics import Resampling, mean_estimate
from prefopt.human.statistics import Votes, agreement, crossed_estimate

HOW = Resampling(BootstrapConfig(resamples=400), seed=0)


def votes(points, prompts, annotators):
    return Votes.of(points, list(prompts), list(annotators))


def test_two_prompts_and_two_annotators_by_hand():
    """The only loss is b's on y: a resample without y or without b has rate 1, one with both twice has rate 0."""
    found = crossed_estimate(votes([1, 1, 1, 0], "xxyy", "abab"), HOW, "x")
    assert (found.value, found.low, found.high, found.n) == (0.75, 0.0, 1.0, 4)


def test_the_draws_by_hand():
    """All nine ways to draw two prompts and two annotators, by their chances; the interval ends at their quantiles."""
    given_votes, chance = votes([1, 1, 1, 0], "xxyy", "abab"), {0: 1, 1: 2, 2: 1}
    drawn = []
    for x in chance:
        for a in chance:
            weight = np.array([x, x, 2 - x, 2 - x]) * np.array([a, 2 - a, a, 2 - a])
            drawn += [float((weight * given_votes.points).sum() / weight.sum())] * (chance[x] * chance[a])
    assert sorted(drawn) == [0.0, *[0.5] * 4, *[0.75] * 4, *[1.0] * 7]
    for level in (0.55, 0.7, 0.95):
        how = Resampling(BootstrapConfig(resamples=4000, level=level), seed=0)
        found = crossed_estimate(given_votes, how, "x")
        assert (found.low, found.high) == (0.0 if level == 0.95 else 0.5, 1.0)


def test_an_interval_allows_for_both_kinds_of_clusters():
    """Ten annotators who each always choose one model: a hundred prompts make it no surer who another would choose."""
    annotators = np.tile(np.arange(10), 100)
    prompts = np.repeat(np.arange(100), 10)
    points = (annotators < 5).astype(float)
    both = crossed_estimate(Votes(points, prompts, annotators), HOW, "x")
    alone = mean_estimate(points, prompts, HOW, "x")
    assert alone.high - alone.low < 1e-9
    assert both.high - both.low > 0.4
    turned = crossed_estimate(Votes(points, annotators, prompts), HOW, "x")
    assert turned.high - turned.low > 0.4


def test_one_annotator_leaves_the_prompts():
    points = np.arange(30) % 2.0
    found = crossed_estimate(Votes(points, np.arange(30), np.zeros(30, dtype=np.intp)), HOW, "x")
    alone = mean_estimate(points, np.arange(30), HOW, "x")
    assert found.low == pytest.approx(alone.low, abs=0.05)
    assert found.high == pytest.approx(alone.high, abs=0.05)
    single = crossed_estimate(votes([1.0, 0.0], "aa", "xx"), HOW, "x")
    assert (single.value, single.low, single.high) == (0.5, None, None)


def test_many_clusters_are_done_in_portions(monkeypatch):
    monkeypatch.setattr("prefopt.human.statistics._MEMORY_CELLS", 100)
    rng = np.random.default_rng(0)
    given_votes = Votes(rng.random(60), np.arange(60) % 12, np.arange(60) % 5)
    found = crossed_estimate(given_votes, HOW, "x")
    assert found.low < found.value < found.high


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=20))
def test_rates_of_both_sides_mirror_each_other(rows):
    points = np.array([float(won) for won, _, _ in rows])
    prompts, annotators = [f"p{p}" for _, p, _ in rows], [f"a{a}" for _, _, a in rows]
    wins = crossed_estimate(Votes.of(points, prompts, annotators), HOW, "x")
    losses = crossed_estimate(Votes.of(1.0 - points, prompts, annotators), HOW, "x")
    assert wins.value == pytest.approx(1.0 - losses.value)
    if wins.low is None:
        assert losses.low is None
    else:
        assert (wins.low, wins.high) == pytest.approx((1.0 - losses.high, 1.0 - losses.low))


def test_no_votes_are_refused():
    with pytest.raises(ValueError, match="no votes"):
        crossed_estimate(votes([], [], []), HOW, "x")


def test_alpha_by_hand():
    """Coincidences of (l, l), (l, l), (l, r), (r, r): o_ll = 4, o_lr = o_rl = 1, o_rr = 2; n_l = 5, n_r = 3, n = 8.

    alpha = 1 - 7 * 2 / (2 * 5 * 3) = 8 / 15.
    """
    found = agreement(list("aabbccdd"), ["left"] * 5 + ["right"] * 3)
    assert found.alpha == pytest.approx(8 / 15)
    assert (found.observed, found.units, found.votes) == (0.75, 4, 8)


def test_alpha_of_krippendorffs_nominal_example():
    """Krippendorff (2011), section C: nominal data of four observers with missing values; alpha is 0.743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    rows = [(str(unit), str(value)) for row in observers for unit, value in enumerate(row) if value is not None]
    found = agreement([unit for unit, _ in rows], [value for _, value in rows])
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert (found.units, found.votes) == (11, 40)


def test_full_agreement_chance_and_nothing_to_compare():
    assert agreement(list("aabb"), ["left", "left", "right", "right"]).alpha == 1.0
    same = agreement(list("aabb"), ["left"] * 4)
    assert (same.alpha, same.observed) == (None, 1.0)
    assert agreement(list("abc"), ["left", "right", "tie"]) is None
    assert agreement([], []) is None
    rng = np.random.default_rng(0)
    random = agreement([str(n // 3) for n in range(6000)], rng.choice(["left", "right", "tie"], 6000))
    assert abs(random.alpha) < 0.05
