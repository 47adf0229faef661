import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prefopt.data.noise import (
    BINS,
    boundary_bin,
    flip_place,
    flips_wanted,
    gap_flip_probability,
    histogram,
    threshold,
)


def flipped(shards: list[list[str]], rate: float, seed: int = 0, entry: int = 0) -> set[str]:
    """The votes that are flipped, found as the stage finds them: counts of each shard, then the boundary bin."""
    places = [[flip_place(seed, entry, vote) for vote in shard] for shard in shards]
    counts = np.sum([histogram(shard) for shard in places], axis=0)
    wanted = flips_wanted({"all": counts}, {"all": rate})["all"]
    if not wanted:
        return set()
    edge, inside = boundary_bin(counts, wanted)
    limit = threshold([p for shard in places for p in shard if int(p * BINS) == edge], inside)
    return {vote for shard in shards for vote in shard if flip_place(seed, entry, vote) <= limit}


votes = st.integers(1, 400).map(lambda n: [f"vote {k}" for k in range(n)])


@given(votes, st.floats(0, 1), st.integers(0, 5))
def test_the_count_is_exact(some: list[str], rate: float, seed: int) -> None:
    assert len(flipped([some], rate, seed)) == round(rate * len(some))


@given(votes, st.floats(0, 1), st.integers(1, 5), st.randoms())
def test_neither_shards_nor_order_matter(some: list[str], rate: float, shards: int, random: object) -> None:
    shuffled = sorted(some, key=lambda _: random.random())  # type: ignore[attr-defined]
    split = [shuffled[k::shards] for k in range(shards)]
    assert flipped(split, rate) == flipped([some], rate)


@given(votes, st.floats(0, 1))
def test_flipping_twice_restores(some: list[str], rate: float) -> None:
    labels = {vote: float(n % 2) for n, vote in enumerate(some)}
    for _ in range(2):
        chosen = flipped([some], rate)
        labels = {vote: 1.0 - label if vote in chosen else label for vote, label in labels.items()}
    assert labels == {vote: float(n % 2) for n, vote in enumerate(some)}


def test_a_higher_rate_flips_more_of_the_same() -> None:
    some = [f"vote {n}" for n in range(500)]
    assert flipped([some], 0.1) < flipped([some], 0.3) < flipped([some], 1.0) == set(some)


def test_seeds_and_entries_flip_others() -> None:
    some = [f"vote {n}" for n in range(500)]
    assert flipped([some], 0.2) != flipped([some], 0.2, seed=1)
    assert flipped([some], 0.2) != flipped([some], 0.2, entry=1)


def test_each_stratum_has_its_own_exact_count() -> None:
    counts = {"a": np.array(histogram([0.1] * 10)), "b": np.array(histogram([0.2, 0.3]))}
    assert flips_wanted(counts, {"a": 0.25, "b": 1.0, "c": 0.5}) == {"a": 2, "b": 2}


def test_the_boundary_by_hand() -> None:
    counts = np.zeros(BINS, dtype=int)
    counts[[3, 7]] = [2, 5]
    assert boundary_bin(counts, 2) == (3, 2)
    assert boundary_bin(counts, 4) == (7, 2)
    assert threshold([0.9, 0.5, 0.7], 2) == 0.7


@given(st.floats(-10, 10), st.floats(0.001, 10), st.floats(0, 1), st.floats(0.1, 10))
def test_wider_gaps_flip_less(gap: float, wider: float, rate: float, scale: float) -> None:
    near = gap_flip_probability(gap, rate, scale)
    assert 0.0 <= gap_flip_probability(abs(gap) + wider, rate, scale) <= near <= rate
    assert near == gap_flip_probability(-gap, rate, scale)


def test_gap_flips_by_hand() -> None:
    assert gap_flip_probability(0.0, 0.4, 2.0) == 0.4
    assert math.isclose(gap_flip_probability(2.0, 0.4, 2.0), 0.4 / math.e)
