from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.suspicious import CHANGED, UNANIMOUS, VOTES_SHOWN, Judgement, SuspectSearch
from tests.kit.card import Pair, Vote, make_shards, pair_ids

QUIET = Pair([Vote("ann", 1.0)], u=0.1, stability=1.0, margins=[1.0, 2.0])
BY_HAND = [
    QUIET,
    Pair([Vote("ann", 0.0)], u=0.1, stability=1.0, margins=[1.0, 2.0]),
    Pair([Vote("ann", 0.0)], u=0.1, stability=1.0, margins=[1.0, 2.0, -1.0]),
    Pair([Vote("ann", 1.0), Vote("bob", 1.0), Vote("cy", 0.0)], u=0.1, stability=1.0, margins=[1.0, 2.0]),
    Pair([Vote("ann", 0.0, latest=False), Vote("ann", 1.0)], u=0.1, stability=1.0, margins=[1.0]),
    Pair([Vote("ann", 1.0, flipped=True)], u=0.1, stability=1.0, margins=[1.0, None]),
    Pair([Vote("ann", 0.5)], u=0.1, stability=1.0, margins=[1.0]),
]


def search(pairs: Sequence[Pair], most: int = 100, cut: int = 1) -> SuspectSearch:
    found = SuspectSearch(most)
    for shard in make_shards(pairs, cut=cut):
        found.add(shard, ["all"], np.zeros(shard.pairs.num_rows, dtype=np.int64))
    return found


def test_suspicion_by_hand() -> None:
    found = search(BY_HAND)
    place = {name: at for at, name in enumerate(pair_ids(len(BY_HAND)))}
    suspicion = {place[one.pair["pair_id"]]: one.suspicion for one in found.suspects}
    assert suspicion == pytest.approx(
        {
            1: 0.9 + UNANIMOUS,
            2: 0.9,
            3: (0.1 + 0.1 + 0.9) / 3 + 1 / 3,
            4: 0.1 + CHANGED,
            5: 0.9 + UNANIMOUS,
        }
    )
    assert [round(one.suspicion, 6) for one in found.suspects] == sorted(
        (round(value, 6) for value in suspicion.values()), reverse=True
    )
    assert found.found == 5


def test_what_is_known_of_a_suspect() -> None:
    (one,) = search([BY_HAND[3]]).suspects
    assert (one.wins, one.ties, one.votes, one.panel, one.changed) == ((2, 1), 0, 3, (2, 0, 2), 0)
    assert one.judgements[0] == Judgement("ann", 1, counts=True, flipped=False)
    (flipped,) = search([BY_HAND[5]]).suspects
    assert (flipped.flipped, flipped.wins, flipped.panel) == (1, (0, 1), (1, 0, 1))
    assert flipped.judgements[0].flipped
    (changed,) = search([BY_HAND[4]]).suspects
    assert (changed.changed, changed.wins, [one.counts for one in changed.judgements]) == (1, (1, 0), [False, True])


def test_without_a_panel_votes_alone_speak() -> None:
    pairs = [Pair([Vote("ann", 1.0), Vote("bob", 0.0)]), Pair([Vote("ann", 1.0)])]
    found = search(pairs)
    (one,) = found.suspects
    assert (one.u, one.suspicion, one.panel) == (None, 0.5, (0, 0, 0))
    assert found.share_below(0.5) is None
    assert found.histogram.sum() == 0


def test_anonymous_votes_change_no_mind() -> None:
    (one,) = search([Pair([Vote("", 1.0), Vote("", 0.0)])]).suspects
    assert one.changed == 0


def test_the_share_of_labels_below() -> None:
    found = search([Pair([Vote("ann", 1.0)], u=value, stability=1.0, margins=[1.0]) for value in (0.1, 0.2, 0.3, 0.9)])
    assert found.share_below(0.25) == 0.5
    assert found.share_below(0.9) == 0.75
    assert found.share_below(1.0) == 1.0


def test_a_crowd_is_cut_short() -> None:
    crowd = Pair([Vote(f"p{at}", float(at % 2)) for at in range(30)])
    (one,) = search([crowd]).suspects
    assert (len(one.judgements), one.votes, one.wins) == (VOTES_SHOWN, 30, (15, 15))


PAIRS = st.builds(
    Pair,
    st.lists(st.builds(Vote, st.sampled_from("abc"), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=4),
    u=st.sampled_from([0.1, 0.3]),
    stability=st.just(0.5),
    margins=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=3),
)


@given(st.lists(PAIRS, min_size=1, max_size=9), st.integers(2, 4), st.integers(1, 4))
def test_the_same_pairs_are_found_in_any_shards(pairs: list[Pair], cut: int, most: int) -> None:
    whole, apart = search(pairs), search(pairs, most, cut)
    assert apart.suspects == whole.suspects[:most]
    assert apart.found == whole.found
    assert np.array_equal(apart.histogram, whole.histogram)
