from collections import Counter

import numpy as np
import pytest

from prefopt.world.annotators import DEFAULT_SHARES, population, preference, vote
from prefopt.world.dataset import WorldPair, world_pair
from prefopt.world.taste import TASTES


@pytest.fixture(scope="module")
def pairs() -> list[WorldPair]:
    return [world_pair(9, index) for index in range(500)]


def agreement(group: str, pairs: list[WorldPair]) -> tuple[float, float]:
    """Share of ties, and agreement of the other votes with the majority's noiseless preference."""
    people = population(20, 0, {group: 1.0})
    votes = np.array(
        [
            vote(people[k % 20], pair.first, pair.second, pair.prompt, np.random.default_rng([1, k]))
            for k, pair in enumerate(pairs)
        ]
    )
    truth = np.array([preference(TASTES["majority"], pair.first, pair.second, pair.prompt) > 0 for pair in pairs])
    told = votes != 0.5
    return float(np.mean(~told)), float(np.mean((votes > 0.5)[told] == truth[told]))


@pytest.mark.parametrize(
    ("group", "low", "high"),
    [("majority", 0.87, 0.97), ("noir", 0.25, 0.5), ("ornate", 0.38, 0.62), ("careless", 0.43, 0.6)],
)
def test_groups_agree_with_the_majority_at_known_rates(
    pairs: list[WorldPair], group: str, low: float, high: float
) -> None:
    ties, agreed = agreement(group, pairs)
    assert low < agreed < high
    assert ties < 0.2


def test_minorities_follow_their_own_taste(pairs: list[WorldPair]) -> None:
    people = population(20, 0, {"noir": 1.0})
    own = [
        (preference(TASTES["noir"], pair.first, pair.second, pair.prompt) > 0)
        == (vote(people[k % 20], pair.first, pair.second, pair.prompt, np.random.default_rng([2, k])) > 0.5)
        for k, pair in enumerate(pairs)
    ]
    assert np.mean(own) > 0.85


def test_swapping_the_pair_negates_the_preference(pairs: list[WorldPair]) -> None:
    for pair in pairs[:20]:
        forth = preference(TASTES["majority"], pair.first, pair.second, pair.prompt)
        back = preference(TASTES["majority"], pair.second, pair.first, pair.prompt)
        assert forth == pytest.approx(-back)


def test_a_population_has_the_shares_it_was_asked_for() -> None:
    people = population(100, 3)
    assert Counter(person.group for person in people) == {
        group: round(100 * share) for group, share in DEFAULT_SHARES.items()
    }
    assert len({person.user_id for person in people}) == 100
    assert people == population(100, 3)
    assert people != population(100, 4)


@pytest.mark.parametrize(
    "shares", [{"majority": 0.5}, {"majority": 0.5, "martian": 0.5}, {"majority": 1.5, "noir": -0.5}]
)
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        population(10, 0, shares)


def test_a_vote_depends_on_its_generator_alone(pairs: list[WorldPair]) -> None:
    person, pair = population(5, 0)[0], pairs[0]
    votes = [vote(person, pair.first, pair.second, pair.prompt, np.random.default_rng(k)) for k in (1, 1, 2)]
    assert votes[0] == votes[1]
