"""Diversity and distance from the base, by hand, by brute force over pairs, and on data whose truth is known."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.config.evaluate import BootstrapConfig
from prefopt.evaluation.diversity import (
    across_distance,
    feature_figures,
    feature_metrics,
    paired_distances,
    resampled_across,
    unit_rows,
    within_distances,
)
from prefopt.evaluation.statistics import Resampling

HOW = Resampling(BootstrapConfig(resamples=100), seed=3)
BY_HAND = np.array([[[1, 0], [0, 1]], [[1, 0], [-1, 0]], [[0, 1], [0, 1]]], dtype=np.float32)
"""Three prompts with two samples each: right angle, opposite, the same."""
NAMES = ["a", "b", "c"]
sizes = st.tuples(st.integers(2, 6), st.integers(2, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))


def units(prompts: int, samples: int, width: int, seed: int, lean: float = 0.5) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((prompts, samples, width)) + lean
    return (found / np.linalg.norm(found, axis=-1, keepdims=True)).astype(np.float32)


def figures(base: np.ndarray, tuned: np.ndarray, names: list[str] | None = None, how: Resampling = HOW):
    names = names or [f"p{number}" for number in range(len(base))]
    return feature_figures("kit", "kit 1", {"base": base, "tuned": tuned}, names, how)


def test_diversity_by_hand():
    found = figures(BY_HAND, BY_HAND).diversity["base"]
    assert within_distances(unit_rows(BY_HAND)).tolist() == pytest.approx([1.0, 2.0, 0.0])
    assert found.within.value == pytest.approx(1.0)  # (1 + 2 + 0) / 3
    assert found.across.value == pytest.approx(2 / 3)  # first samples: a and b the same, c at a right angle to both
    assert (found.within.n, found.across.n) == (3, 3)
    assert (found.within_change, found.across_change) == (None, None)


def test_distance_and_change_by_hand():
    tuned = BY_HAND.copy()
    tuned[0] = [[-1, 0], [-1, 0]]  # samples of a now agree: from the base's at distance 2 and 1
    found = figures(BY_HAND, tuned)
    assert paired_distances(unit_rows(tuned), unit_rows(BY_HAND)).tolist() == [[2.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    distance = found.distance_from_base["tuned"]
    assert (distance.value, distance.n) == (pytest.approx(0.5), 6)
    assert distance.low <= 0.5 <= distance.high
    change = found.diversity["tuned"]
    assert change.within_change.value == pytest.approx(-1 / 3)
    assert change.across_change.value == pytest.approx((2 + 1 + 1) / 3 - 2 / 3)
    assert found.distance_from_base.keys() == {"tuned"}


@given(sizes)
def test_the_sum_trick_is_the_mean_over_all_pairs(size):
    found = unit_rows(units(*size))
    within = [np.mean([1.0 - a @ b for a, b in itertools.combinations(rows, 2)]) for rows in found]
    across = np.mean([1.0 - a @ b for a, b in itertools.combinations(found[:, 0], 2)])
    assert within_distances(found) == pytest.approx(within, abs=1e-12)
    assert across_distance(found) == pytest.approx(across, abs=1e-12)


@given(sizes)
def test_identical_images_have_no_diversity_and_antipodal_ones_have_two(size):
    prompts, _, width, seed = size
    one = units(1, 1, width, seed)
    same = unit_rows(np.broadcast_to(one, (prompts, 4, width)))
    assert within_distances(same) == pytest.approx(0.0, abs=1e-12)
    assert across_distance(same) == pytest.approx(0.0, abs=1e-12)
    opposite = unit_rows(np.stack([one[0, 0], -one[0, 0]])[:, None])
    assert across_distance(opposite) == pytest.approx(2.0)
    assert within_distances(opposite.swapaxes(0, 1)) == pytest.approx(2.0)
    assert paired_distances(opposite[:1], opposite[1:]) == pytest.approx(2.0)


@settings(max_examples=20, deadline=None)
@given(sizes, st.randoms(use_true_random=False))
def test_the_order_of_prompts_changes_nothing(size, random):
    prompts, samples, width, seed = size
    base, tuned = units(*size), units(prompts, samples, width, seed + 1)
    names, order = [f"p{number}" for number in range(prompts)], list(range(prompts))
    random.shuffle(order)
    assert figures(base, tuned, names) == figures(base[order], tuned[order], [names[place] for place in order])


@settings(max_examples=20, deadline=None)
@given(sizes)
def test_a_model_is_at_no_distance_from_itself(size):
    base = units(*size)
    found = figures(base, base)
    distance, change = found.distance_from_base["tuned"], found.diversity["tuned"]
    assert (distance.value, distance.low, distance.high) == (0.0, 0.0, 0.0)
    assert (change.within_change.value, change.across_change.value) == (0.0, 0.0)
    assert change.across == found.diversity["base"].across


def test_resamples_leave_out_pairs_of_a_prompt_with_itself():
    found = unit_rows(units(4, 1, 3, seed=1))
    drawn = resampled_across([found], HOW)[0]
    weights = HOW.rng("diversity across prompts").multinomial(4, [0.25] * 4, size=100)
    first = found[:, 0]
    for weight, value in zip(weights, drawn, strict=True):
        chosen = np.repeat(np.arange(4), weight)
        pairs = [(p, q) for p, q in itertools.combinations(chosen, 2) if p != q]
        if pairs:
            assert value == pytest.approx(np.mean([1.0 - first[p] @ first[q] for p, q in pairs]), abs=1e-12)
        else:
            assert np.isnan(value)


def test_resamples_lie_around_the_figure():
    how = Resampling(BootstrapConfig(resamples=4000), seed=0)
    found = unit_rows(units(10, 1, 8, seed=2))
    drawn = resampled_across([found], how)[0]
    spread = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - across_distance(found)) < 4 * spread
    assert across_distance(found) / 10 > 20 * spread  # with pairs of a prompt with itself it would lie lower by 1/10


def test_an_interval_of_the_diversity_across_prompts_covers_the_truth():
    rng, width, prompts, trials = np.random.default_rng(0), 6, 50, 300
    how = Resampling(BootstrapConfig(resamples=400), seed=0)

    def draw(count: int) -> np.ndarray:
        leaning = rng.standard_normal((count, width)) * rng.choice([0.3, 1.5], (count, 1))
        leaning[:, 0] += 1.0
        return leaning / np.linalg.norm(leaning, axis=-1, keepdims=True)

    truth = 1.0 - np.square(draw(1_000_000).mean(axis=0)).sum()
    covered = 0
    for _ in range(trials):
        low, high = np.nanquantile(resampled_across([draw(prompts)[:, None]], how), how.ends())
        covered += low <= truth <= high
    assert 0.90 <= covered / trials <= 0.985


def test_changes_are_paired_by_prompt():
    base = units(40, 2, 8, seed=4)
    nudged = base + 0.01 * units(40, 2, 8, seed=5)
    found = figures(base, nudged / np.linalg.norm(nudged, axis=-1, keepdims=True)).diversity["tuned"]
    for value, change in ((found.within, found.within_change), (found.across, found.across_change)):
        assert change.high - change.low < 0.2 * (value.high - value.low)


def test_other_models_change_no_figure():
    models = {name: units(5, 2, 4, seed) for seed, name in enumerate(["base", "one", "two"])}
    all_of_them = feature_figures("kit", "1", models, list("abcde"), HOW)
    alone = feature_figures("kit", "1", {name: models[name] for name in ("two", "base")}, list("abcde"), HOW)
    assert list(alone.diversity) == ["base", "two"]
    for name in ("base", "two"):
        assert alone.diversity[name] == all_of_them.diversity[name]
    assert alone.distance_from_base["two"] == all_of_them.distance_from_base["two"]


def test_one_sample_and_one_prompt_leave_figures_out():
    found = figures(units(3, 1, 4, 0), units(3, 1, 4, 1)).diversity["tuned"]
    assert (found.within, found.within_change) == (None, None)
    assert found.across is not None
    found = figures(units(1, 2, 4, 0), units(1, 2, 4, 1))
    assert found.diversity["tuned"].across is None
    assert found.diversity["tuned"].within.low is None
    assert found.distance_from_base["tuned"].n == 2
    with pytest.raises(ValueError, match="at least two samples"):
        within_distances(unit_rows(units(3, 1, 4, 0)))
    with pytest.raises(ValueError, match="at least two prompts"):
        across_distance(unit_rows(units(1, 2, 4, 0)))


def test_two_prompts_are_one_pair_and_give_no_interval():
    found = figures(units(2, 1, 4, 0), units(2, 1, 4, 1)).diversity["tuned"]
    assert (found.across.low, found.across_change.high) == (None, None)


@pytest.mark.parametrize("broken", [0.0, 0.9, 1.1, np.nan, np.inf])
def test_rows_of_another_length_are_refused(broken):
    found = units(3, 2, 4, 0)
    found[1, 1] *= np.float32(broken)
    with (
        pytest.raises(ValueError, match=r"1 of 6 rows do not, the first at prompt 1, sample 1"),
        np.errstate(all="ignore"),
    ):
        figures(found, found)


def test_what_does_not_fit_together_is_refused():
    found = units(3, 2, 4, 0)
    with pytest.raises(ValueError, match=r"\[prompts, samples, d\]"):
        unit_rows(found[0])
    with pytest.raises(ValueError, match="at least one of each"):
        unit_rows(found[:0])
    with pytest.raises(ValueError, match="shape"):
        figures(found, found[:, :1])
    with pytest.raises(ValueError, match="3 prompts, and 2 names"):
        figures(found, found, ["a", "b"])
    with pytest.raises(ValueError, match="named twice"):
        figures(found, found, ["a", "b", "a"])
    with pytest.raises(ValueError, match="no features of the model 'base'"):
        feature_figures("kit", "1", {"tuned": found}, NAMES, HOW)


def test_the_record_of_metrics_json():
    record = feature_metrics(figures(BY_HAND, BY_HAND, NAMES))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    diversity, distance = record["diversity"], record["distance_from_base"]
    assert diversity["features"] == distance["features"] == {"name": "kit", "version": "kit 1"}
    assert list(diversity["models"]) == ["base", "tuned"]
    fields = {"within", "across", "within_change", "across_change"}
    assert diversity["models"]["base"].keys() == diversity["models"]["tuned"].keys() == fields
    assert diversity["models"]["base"]["within_change"] is None
    assert diversity["models"]["tuned"]["within"].keys() == {"value", "low", "high", "n"}
    assert distance["models"] == {"tuned": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 6}}
    assert feature_metrics(None) == {"diversity": None, "distance_from_base": None}
