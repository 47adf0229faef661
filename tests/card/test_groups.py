from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.groups import Group, GroupTally, label_u
from tests.kit.card import Pair, Vote, make_shard, make_shards

BY_HAND = [
    Pair([Vote("a", 1.0), Vote("b", 0.0)], "x", u=0.2, stability=1.0, margins=[1.0]),
    Pair([Vote("a", 1.0), Vote("b", 0.5)], "x", u=0.6, stability=0.9, margins=[1.0]),
    Pair([Vote("a", 0.0), Vote("b", 0.0)], "y", u=0.6, stability=0.9, margins=[1.0]),
    Pair([Vote("a", 0.0, latest=False), Vote("a", 1.0)], "x", u=0.4, stability=0.5, margins=[1.0]),
]


def groups(pairs: Sequence[Pair], cut: int = 1) -> list[Group]:
    """Grouped by prompt."""
    tally = GroupTally()
    for shard in make_shards(pairs, cut=cut):
        prompts = shard.pairs["prompt"].combine_chunks().dictionary_encode()
        tally.add(shard, prompts.dictionary.to_pylist(), prompts.indices.to_numpy().astype(np.int64))
    return tally.groups()


def test_u_is_of_the_label_that_was_given() -> None:
    u = label_u(make_shard(BY_HAND))
    assert u is not None
    assert u.tolist() == pytest.approx([0.2, 0.8, 0.6, np.nan, 0.3, 0.3, np.nan, 0.4], nan_ok=True)
    assert label_u(make_shard([Pair()])) is None


def test_u_follows_a_flip() -> None:
    flipped = Pair([Vote("a", 1.0, flipped=True)], u=0.2, stability=1.0, margins=[1.0])
    u = label_u(make_shard([flipped]))
    assert u is not None
    assert u.tolist() == pytest.approx([0.8])


def test_groups_by_hand() -> None:
    x, y = groups(BY_HAND)
    assert (x.name, x.pairs, x.votes) == ("x", 3, 6)
    assert (x.ties.hits, x.ties.n) == (1, 6)
    assert (x.disagreement.hits, x.disagreement.n) == (1, 1)
    assert x.u.n == 4
    assert x.u.value == pytest.approx((0.2 + 0.8 + 0.6 + 0.4) / 4, abs=1e-6)
    assert (y.name, y.disagreement.hits, y.disagreement.n) == ("y", 0, 1)
    assert y.u.value == pytest.approx(0.3, abs=1e-6)


def test_without_a_panel_there_is_no_u() -> None:
    (found,) = groups([Pair()])
    assert (found.u.n, found.u.value) == (0, None)


@given(st.lists(st.sampled_from(BY_HAND), min_size=1, max_size=10), st.integers(1, 4))
def test_sums_do_not_depend_on_the_shards(pairs: list[Pair], cut: int) -> None:
    assert groups(pairs) == groups(pairs, cut)
