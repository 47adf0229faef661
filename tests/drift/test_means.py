"""Means over labels: by hand, and by whole prompts."""

import numpy as np
import pytest

from prefopt.data.ids import row_rng
from prefopt.drift.chance import Bools, Chance, Floats, Measured, Unmeasured
from prefopt.drift.means import Labels, agreement_drift, minority_drift, rise_p, studentised


def test_the_statistic_by_hand() -> None:
    """New values 1, 1 and known ones 0, 1: 1/2, over the root of (1/4 + 1/4) / 2^2."""
    new = np.array([[False, False, True, True]])
    found = studentised(np.array([0.0, 1.0, 1.0, 1.0]), np.ones(4), new)
    assert found == pytest.approx([0.5 / np.sqrt(0.125)])
    assert studentised(np.ones(4), np.ones(4), new).tolist() == [0.0]


def labels(values: Floats, new: Bools, per_prompt: int = 1) -> Labels:
    prompts = [f"{int(late)} {row // per_prompt}" for row, late in enumerate(new)]
    return Labels(prompts, [f"{row}" for row in range(len(new))], new, values)


def test_fewer_labels_that_agree_are_a_fall() -> None:
    """Of 40 known labels 30 agree, of 40 new ones 10: by 3/4 - 1/4."""
    new = np.repeat([False, True], 40)
    values = np.concatenate([np.arange(40) < 30, np.arange(40) < 10]).astype(np.float64)
    fall, rise = (agreement_drift(labels(one, new), Chance(199)) for one in (values, values[::-1]))
    assert isinstance(fall, Measured)
    assert isinstance(rise, Measured)
    assert (fall.value, fall.p, fall.known, fall.new) == (0.5, pytest.approx(1 / 200), 40, 40)
    assert fall.figures == {"known": 0.75, "new": 0.25}
    assert (rise.value, rise.p) == (-0.5, 1.0)


def test_a_higher_u_is_a_rise() -> None:
    new = np.repeat([False, True], 30)
    values = np.where(new, 0.5, 0.25) + 0.1 * row_rng(0, "u").random(60)
    found = minority_drift(labels(values, new), Chance(199))
    assert isinstance(found, Measured)
    assert found.value == pytest.approx(0.25, abs=0.05)
    assert found.p == pytest.approx(1 / 200)


def test_many_labels_of_few_prompts_are_no_evidence() -> None:
    """Each prompt's labels are equal: 4 new prompts differ from 10 known ones by chance, with 20 labels each or one."""
    new = np.repeat([False, True], [200, 80])
    minority = np.repeat([0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1], 20).astype(np.float64)
    by_label, by_prompt = (rise_p(labels(minority, new, n), Chance(999), "any") for n in (1, 20))
    assert by_label == pytest.approx(1 / 1000)
    assert by_prompt > 0.05


def test_sides_of_unequal_prompts_do_not_mislead() -> None:
    """60 known prompts of 8 labels, 40 new ones of one: the new mean is far less sure than the pooled labels say."""
    rng, low = row_rng(0, "unequal"), 0
    new = np.repeat([False, True], [480, 40])
    prompts = [f"k{row // 8}" for row in range(480)] + [f"n{row}" for row in range(40)]
    names = [str(row) for row in range(520)]
    for trial in range(200):
        made = Labels(prompts, names, new, (rng.random(520) < 0.7).astype(np.float64))
        low += rise_p(made, Chance(99, trial), "any") <= 0.05
    assert low <= 0.05 * 200 + 3 * np.sqrt(200 * 0.05 * 0.95)


def test_few_labels_are_not_compared() -> None:
    new = np.repeat([False, True], [40, 12])
    for drift in (agreement_drift, minority_drift):
        found = drift(labels(np.ones(52), new), Chance(99))
        assert isinstance(found, Unmeasured)
        assert found.reason == "there are 12 new labels, and at least 20 are needed"
