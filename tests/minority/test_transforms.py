import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import filter_minority, flip_minority, majority_vote

us = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=1, max_size=12).map(np.array)
shares = st.floats(0, 1)


def test_majority_by_hand() -> None:
    """Columns: two to one for, one to two against, one each with an abstention, all abstain, a lone vote."""
    margins = np.array([[2.0, -1.0, 0.3, 0.0, np.nan], [0.1, -9.0, -5.0, 0.0, -1e-9], [-7.0, 3.0, 0.0, np.nan, 0.0]])
    assert majority_vote(margins).tolist() == [1.0, 0.0, 0.5, 0.5, 0.0]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_majority_mirrors_and_ignores_order_and_size_of_margins(members: int, rows: int, seed: int) -> None:
    margins = np.random.default_rng(seed).integers(-2, 3, (members, rows)).astype(np.float64)
    labels = majority_vote(margins)
    assert set(labels.tolist()) <= {0.0, 0.5, 1.0}
    assert majority_vote(-margins).tolist() == (1 - labels).tolist()
    assert majority_vote(margins[::-1]).tolist() == labels.tolist()
    assert majority_vote(np.sign(margins) * 1e-9).tolist() == labels.tolist()


def test_filter_and_flip_by_hand() -> None:
    u, label = np.array([0.1, 0.9, 0.5, 0.7]), np.array([1.0, 0.0, 1.0, 0.5])
    assert filter_minority(u, 0.5).tolist() == [True, False, True, False]
    assert flip_minority(label, u, 0.5).tolist() == [1.0, 1.0, 1.0, 0.5]
    assert filter_minority(u, 0.25).tolist() == [True, False, True, True]


@given(us, shares)
def test_the_count_is_exact_and_the_highest_go(u: np.ndarray, share: float) -> None:
    keep = filter_minority(u, share)
    assert (~keep).sum() == round(share * len(u))
    if keep.any() and not keep.all():
        assert u[keep].max() <= u[~keep].min()


@given(us, shares, st.randoms(use_true_random=False))
def test_with_ids_the_order_of_rows_does_not_matter(u: np.ndarray, share: float, random: object) -> None:
    ids = [f"pair-{i:02d}" for i in range(len(u))]
    order = list(range(len(u)))
    random.shuffle(order)  # type: ignore[attr-defined]
    keep = filter_minority(u, share, ids)
    moved = filter_minority(u[order], share, [ids[i] for i in order])
    assert moved.tolist() == keep[order].tolist()


def test_ties_of_u_go_by_id_or_else_by_row() -> None:
    u = np.full(4, 0.5)
    assert filter_minority(u, 0.5).tolist() == [False, False, True, True]
    assert filter_minority(u, 0.5, ["d", "b", "c", "a"]).tolist() == [True, False, True, False]


@given(us, shares, st.integers(0, 99))
def test_flipping_twice_restores_and_touches_what_filtering_drops(u: np.ndarray, share: float, seed: int) -> None:
    label = np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 1.0], len(u))
    flipped = flip_minority(label, u, share)
    keep = filter_minority(u, share)
    assert flipped[keep].tolist() == label[keep].tolist()
    assert flipped[~keep].tolist() == (1 - label[~keep]).tolist()
    assert flip_minority(flipped, u, share).tolist() == label.tolist()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: majority_vote(np.zeros(3)), r"margins must have shape \[M, B\]"),
        (lambda: majority_vote(np.zeros((0, 3))), "a row per annotator"),
        (lambda: filter_minority(np.array([0.1, np.nan]), 0.5), "u must hold .* without NaN"),
        (lambda: filter_minority(np.array([0.1, 1.5]), 0.5), "u must"),
        (lambda: filter_minority(np.zeros((2, 2)), 0.5), "u must"),
        (lambda: filter_minority(np.zeros(2), 1.5), r"share must lie in \[0, 1\], got 1\.5"),
        (lambda: filter_minority(np.zeros(2), 0.5, ["a"]), "ids must name each of the 2 rows, got 1"),
        (lambda: flip_minority(np.zeros(3), np.zeros(2), 0.5), "label must"),
        (lambda: flip_minority(np.array([0.0, -1.0]), np.zeros(2), 0.5), "label must"),
    ],
)
def test_wrong_inputs_are_named(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]


def test_nothing_in_nothing_out() -> None:
    assert filter_minority(np.zeros(0), 0.5).shape == (0,)
    assert majority_vote(np.zeros((2, 0))).shape == (0,)
