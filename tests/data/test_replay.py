"""Visits of a night that goes on from a champion: new pairs, with known ones among them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.score import VisitConfig
from prefopt.data.visits import Example, Replay, visit_id
from tests.kit.plans import planned


def examples(pairs: int) -> list[Example]:
    return [Example(f"pair {n}", f"vote {n}", 0, 1, 1.0, f"image {2 * n}", f"image {2 * n + 1}") for n in range(pairs)]


def visited(pairs: int, known: int, count: int, share: float, salt: str = "a") -> list[tuple[str, str]]:
    """Pair and visit id of each visit, where the first `known` pairs are old."""
    replay = Replay(frozenset(f"pair {n}" for n in range(known)), share, salt)
    visits = planned(examples(pairs), count, VisitConfig(), replay=replay).visits
    return list(zip(visits["pair_id"].to_pylist(), visits["visit_id"].to_pylist(), strict=True))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 9), st.integers(1, 40), st.integers(0, 20))
def test_known_pairs_have_their_share_at_every_length(new: int, known: int, tenths: int, count: int, more: int) -> None:
    share = tenths / 10
    rows = visited(new + known, known, count + more, share)
    old = [int(pair.split()[1]) < known for pair, _ in rows]
    for length in range(1, count + more + 1):
        assert sum(old[:length]) == int(length * share)
    assert visited(new + known, known, count, share) == rows[:count]


def test_without_known_pairs_or_without_new_ones_the_others_are_visited() -> None:
    assert {pair for pair, _ in visited(4, 0, 8, 0.5)} == {f"pair {n}" for n in range(4)}
    assert {pair for pair, _ in visited(4, 4, 8, 0.5)} == {f"pair {n}" for n in range(4)}


def test_every_new_pair_is_visited_before_one_is_visited_again() -> None:
    rows = [pair for pair, _ in visited(30, 20, 20, 0.5) if int(pair.split()[1]) >= 20]
    assert sorted(rows) == sorted(f"pair {n}" for n in range(20, 30))


def test_another_night_replays_other_pairs_by_the_visits_that_were_stored() -> None:
    nights = [
        {row for row in visited(1010, 1000, 20, 0.5, salt) if int(row[0].split()[1]) < 1000} for salt in ("a", "b", "c")
    ]
    assert all(len(first & second) <= 1 for first, second in itertools.combinations(nights, 2))
    for pair, visit in set.union(*nights):
        assert visit == visit_id(pair, 0, 0), "the first draw, as a training on these pairs makes it"


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_replay_is_merged_evenly(share: float) -> None:
    rows = [int(pair.split()[1]) < 50 for pair, _ in visited(100, 50, 40, share)]
    every = int(1 / share)
    assert rows == ([False] * (every - 1) + [True]) * (40 // every)
