from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.people import MEASURES, AgreementTally, PeopleTally
from prefopt.card.times import TimeBins
from tests.kit.card import Pair, Vote, make_shards

NAMES = ["ann", "bob", "cy"]
NO_TIMES = TimeBins(np.empty(0))


def tally(pairs: Sequence[Pair], cut: int = 1, bins: TimeBins = NO_TIMES) -> PeopleTally:
    found = PeopleTally(NAMES, bins)
    for shard in make_shards(pairs, cut=cut):
        found.add(shard)
    return found


def counts(found: PeopleTally, measure: str, name: str = "") -> tuple[int, int]:
    """(hits, of how many) of an annotator, or of everyone."""
    row = MEASURES.index(measure)
    of = found.each[NAMES.index(name), row] if name else found.everyone[row]
    n, hits = of.sum(axis=0).tolist()
    return hits, n


BY_HAND = [
    Pair([Vote("ann", 1.0), Vote("bob", 1.0), Vote("cy", 0.0)], u=0.1, margins=[1.0, 2.0, -1.0]),
    Pair([Vote("ann", 1.0), Vote("bob", 0.0), Vote("", 0.0)], u=0.2, margins=[1.0, -1.0]),
    Pair([Vote("ann", 0.5), Vote("bob", 0.0)], u=0.3, margins=[-1.0, None, -2.0]),
    Pair([Vote("ann", 1.0, latest=False), Vote("ann", 0.0), Vote("cy", 0.0)]),
]
"""Others: ann's first vote meets bob against cy, an even pair. In the second two others are against her. The third has
a tie, the fourth a change of mind. Panel: 2 to 1 for image_0; even; 2 for image_1; none."""


def test_leave_one_out_agreement_by_hand() -> None:
    found = tally(BY_HAND)
    assert counts(found, "others", "ann") == (1, 2)
    assert counts(found, "others", "bob") == (0, 0)
    assert counts(found, "others", "cy") == (1, 2)
    assert counts(found, "others") == (2, 4)


def test_agreement_with_the_panel_by_hand() -> None:
    found = tally(BY_HAND)
    assert counts(found, "panel", "ann") == (1, 1)
    assert counts(found, "panel", "bob") == (2, 2)
    assert counts(found, "panel", "cy") == (0, 1)


def test_votes_ties_and_changed_minds_by_hand() -> None:
    found = tally(BY_HAND)
    assert found.votes.tolist() == [5, 3, 2]
    assert found.ties.tolist() == [1, 0, 0]
    assert found.changed.tolist() == [1, 0, 0]


def test_the_image_shown_first_by_hand() -> None:
    votes = [
        Vote("ann", 1.0, first=0), Vote("ann", 0.0, first=0), Vote("ann", 0.0, first=1), Vote("ann", 1.0),
        Vote("ann", 0.5, first=0), Vote("bob", 1.0, first=1),
    ]  # fmt: skip
    found = tally([Pair([vote]) for vote in votes])
    assert counts(found, "first", "ann") == (2, 3)
    assert counts(found, "first", "bob") == (0, 1)
    assert counts(found, "first") == (2, 4)


def test_times_are_counted_in_their_bins() -> None:
    bins = TimeBins(np.array([0.0, 10.0, 20.0]))
    pairs = [Pair([Vote("ann", 1.0, time, first=0)]) for time in ("3", "4", "15", "soon", "")]
    found = tally(pairs, bins=bins)
    assert found.each[0, MEASURES.index("first"), :, 0].tolist() == [2, 1, 2]
    assert found.everyone[MEASURES.index("first"), :, 1].tolist() == [2, 1, 2]


VOTES = st.builds(
    Vote,
    annotator=st.sampled_from([*NAMES, "dan", ""]),
    label=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    time=st.sampled_from(["", "1", "11"]),
    first=st.sampled_from([None, 0, 1]),
    latest=st.booleans(),
)
ANY_PAIRS = st.lists(
    st.builds(
        Pair,
        votes=st.lists(VOTES, min_size=1, max_size=5),
        u=st.just(0.5),
        margins=st.none() | st.lists(st.sampled_from([-1.0, 0.0, 2.0, None]), max_size=3),
    ),
    min_size=1,
    max_size=8,
)


@given(ANY_PAIRS, st.integers(1, 4))
def test_counts_do_not_depend_on_the_shards(pairs: list[Pair], cut: int) -> None:
    bins = TimeBins(np.array([0.0, 10.0, 20.0]))
    whole, apart = tally(pairs, bins=bins), tally(pairs, cut, bins)
    for name in ("everyone", "each", "votes", "ties", "changed"):
        assert np.array_equal(getattr(whole, name), getattr(apart, name)), name


def side(label: float) -> int:
    return int(np.sign(label - 0.5))


@given(ANY_PAIRS)
def test_every_share_is_what_a_plain_loop_counts(pairs: list[Pair]) -> None:
    found = tally(pairs)
    for name in NAMES:
        others, panel = [], []
        for pair in pairs:
            decided = [(vote.annotator, side(vote.label)) for vote in pair.votes if vote.latest and side(vote.label)]
            for at, (who, mine) in enumerate(decided):
                rest = sum(other for place, (_, other) in enumerate(decided) if place != at)
                known = [margin for margin in pair.margins or [] if margin]
                preferred = sum(int(np.sign(margin)) for margin in known)
                if who == name and rest:
                    others.append(np.sign(rest) == mine)
                if who == name and preferred:
                    panel.append(np.sign(preferred) == mine)
        assert counts(found, "others", name) == (sum(others), len(others))
        assert counts(found, "panel", name) == (sum(panel), len(panel))


def test_agreement_of_two_people_by_hand() -> None:
    """2 to 1: one of three pairs of votes agrees; 3 to 0: all; 1 to 1: none; one vote, or a tie: not counted."""
    labels = [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.0), (1.0,), (1.0, 0.5)]
    pairs = [Pair([Vote(f"p{at}", label) for at, label in enumerate(some)]) for some in labels]
    for cut in (1, 3):
        found = AgreementTally()
        for shard in make_shards(pairs, cut=cut):
            found.add(shard)
        assert (found.pairs, found.split) == (3, 2)
        assert found.total == pytest.approx(1 / 3 + 1, abs=1e-6)
        assert found.squares == pytest.approx(1 / 9 + 1, abs=1e-6)
