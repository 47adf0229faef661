"""The metric over a panel in which annotators may be missing: pair by pair it is the metric of those who are there."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import minority_metric
from prefopt.minority.panel import panel_metric

NAN = float("nan")


def panel(annotators: int, pairs: int, seed: int) -> torch.Tensor:
    """Random logits, a third of them missing."""
    rng = np.random.default_rng(seed)
    logits = 3.75 * rng.standard_normal((annotators, pairs))
    logits[rng.random(logits.shape) < 1 / 3] = np.nan
    return torch.from_numpy(logits)


@given(st.integers(2, 6), st.integers(0, 12), st.integers(0, 200))
def test_each_pair_has_the_metric_of_its_own_annotators(annotators: int, pairs: int, seed: int) -> None:
    logits = panel(annotators, pairs, seed)
    found = torch.stack(panel_metric(logits))
    for pair in range(pairs):
        column = logits[:, pair]
        there = column[~torch.isnan(column)]
        if len(there) < 2:
            assert torch.isnan(found[:, pair]).all()
        else:
            alone = torch.stack(minority_metric(there[:, None]))[:, 0]
            assert found[:, pair].tolist() == pytest.approx(alone.tolist(), rel=1e-14)


def test_by_hand() -> None:
    """Logits 1 and -1 with or without a third of 0: stds sqrt(2) and 1, both cut to 1; confidence 1/2 in both."""
    logits = torch.tensor([[1.0, 1.0, 2.0, NAN], [-1.0, -1.0, NAN, NAN], [NAN, 0.0, NAN, 5.0]])
    found = panel_metric(logits)
    assert found.u[:2].tolist() == pytest.approx([0.5, 0.5])
    assert found.stability[:2].tolist() == pytest.approx([1.0, 1.0])
    assert torch.isnan(found.u[2:]).all()


@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 99))
def test_the_opposite_label_has_what_is_left_of_stability(annotators: int, pairs: int, seed: int) -> None:
    logits = panel(annotators, pairs, seed)
    forth, back = panel_metric(logits), panel_metric(-logits)
    known = ~torch.isnan(forth.u)
    assert (forth.u + back.u)[known].tolist() == pytest.approx(forth.stability[known].tolist())


def test_with_everybody_there_it_is_the_metric() -> None:
    logits = panel(4, 50, 0).nan_to_num(0.5)
    assert all(torch.equal(a, b) for a, b in zip(panel_metric(logits), minority_metric(logits), strict=True))


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \[M, B\]"):
        panel_metric(torch.zeros(3))
