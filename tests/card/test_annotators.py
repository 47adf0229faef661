from collections.abc import Sequence

import numpy as np
import pytest

from prefopt.card.annotators import People, annotator_name, describe_people
from prefopt.card.people import PeopleTally
from prefopt.card.standouts import halves
from prefopt.card.times import TimeBins
from tests.kit.card import Pair, Vote, make_shards

NAMES = [f"person {number:02d}" for number in range(12)]
BINS = TimeBins(np.arange(5.0) * 100)


def people(pairs: Sequence[Pair], *, shown: bool = True, bins: TimeBins = BINS, least: int = 10) -> People:
    tally = PeopleTally(NAMES, bins)
    for shard in make_shards(pairs):
        tally.add(shard)
    return describe_people(tally, least=least, shown=shown)


def panel_pairs(odd: str, late_only: bool = False) -> list[Pair]:
    """40 votes of each person on pairs of their own, at times from 0 to 390; all agree with the panel four times in
    five, but `odd`: never, or never in the later half."""
    pairs = []
    for name in NAMES:
        for turn in range(40):
            agrees = turn % 5 != 0 and not (name == odd and (turn >= 20 or not late_only))
            vote = Vote(name, 1.0 if agrees else 0.0, str(10 * turn), first=turn % 2)
            pairs.append(Pair([vote], u=0.5, margins=[1.0, 2.0]))
    return pairs


def by_name(found: People) -> dict[str, list[str]]:
    return {one.name: one.stands_out for one in found.listed}


def test_nobody_stands_out_where_all_are_alike() -> None:
    found = people(panel_pairs(odd=""))
    assert found.standing_out == 0
    assert found.counted == len(found.listed) == 12
    assert not any(by_name(found).values())
    assert found.everyone["panel"].value == pytest.approx(0.8)
    assert found.spread["panel"].tolist() == pytest.approx([0.8] * 12)
    assert found.quantiles("panel") == pytest.approx(dict.fromkeys(found.quantiles("panel") or {}, 0.8))


def test_who_opposes_the_panel_stands_out_and_comes_first() -> None:
    found = people(panel_pairs(odd="person 05"))
    assert found.standing_out == 1
    assert found.listed[0].name == "person 05"
    (words,) = found.listed[0].stands_out
    assert words == "agrees with the panel in 0.0% of 40 votes (everyone: 73.3%)"
    assert found.listed[0].p["panel"] < 1e-9
    assert found.listed[1].stands_out == []


def test_who_changes_over_time_stands_out() -> None:
    found = people(panel_pairs(odd="person 05", late_only=True))
    first = found.listed[0]
    assert first.name == "person 05"
    assert "agreement with the panel went from 80.0% to 0.0% over time" in first.stands_out
    early, late = first.earlier_later["panel"]
    assert (early.hits, early.n, late.hits, late.n) == (16, 20, 0, 20)
    assert [part.n for part in first.by_time["panel"]] == [10, 10, 10, 10]


def test_who_favours_a_side_stands_out() -> None:
    pairs = [
        Pair([Vote(name, float((at + number) % 2), first=1 - (at + number) % 2 if number == 3 else at // 2 % 2)])
        for number, name in enumerate(NAMES)
        for at in range(40)
    ]
    found = people(pairs, bins=TimeBins(np.empty(0)))
    assert found.position_known
    assert by_name(found)["person 03"] == ["names the image shown first in 100.0% of 40 votes"]
    assert found.standing_out == 1
    assert found.listed[0].by_time["first"] == []
    assert found.listed[0].earlier_later == {}


def test_a_source_that_lists_winners_first_says_nothing_of_sides() -> None:
    found = people([Pair([Vote(name, 1.0, first=0)]) for name in NAMES for _ in range(20)])
    assert not found.position_known
    assert found.standing_out == 0
    assert not people([Pair([Vote(name, 1.0)]) for name in NAMES]).position_known


def test_ids_are_hidden_unless_asked_for() -> None:
    names = {one.name for one in people(panel_pairs(odd=""), shown=False).listed}
    assert names == {annotator_name(name, shown=False) for name in NAMES}
    assert not names & set(NAMES)
    assert {len(name) for name in names} == {10}
    assert annotator_name("", shown=False) == ""
    assert annotator_name("ann", shown=True) == "ann"


def test_a_spread_is_over_those_with_enough_votes() -> None:
    pairs = [Pair([Vote(NAMES[0], 1.0)], u=0.5, margins=[1.0]) for _ in range(4)]
    pairs += [Pair([Vote(NAMES[1], 0.0)], u=0.5, margins=[1.0]) for _ in range(3)]
    assert people(pairs, least=4).spread["panel"].tolist() == [1.0]
    assert people(pairs, least=5).quantiles("panel") is None


def test_halves_by_hand() -> None:
    """Bins hold 1, 4, 2 votes, and 9 have no time: 1 against 6 or 5 against 2; the second is more even."""
    counts = np.array([[[1, 1], [4, 2], [2, 0], [9, 9]]])
    early, late = halves(counts)
    assert early.tolist() == [[5], [3]]
    assert late.tolist() == [[2], [0]]
