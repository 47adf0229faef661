"""Candidates of tuning."""

import pytest

from prefopt.lab.analysis.tuning import equally_tuned, tunings
from prefopt.lab.outcome import Outcome
from tests.kit import lab as kit


def tried(method: str, *scores: float, seeds: int = 1) -> list[Outcome]:
    return [
        kit.outcome(
            method,
            "flips-20",
            seed,
            candidate=number,
            settings=["evaluate.split=validation", f"seed={seed}", f"train.optimizer.lr={number + 1}e-5"],
            scores={"world/true": score + 0.01 * seed},
        )
        for number, score in enumerate(scores)
        for seed in range(seeds)
    ]


def test_what_the_grid_was_given_is_chosen_and_nothing_while_a_method_is_tuned() -> None:
    """Here the second candidate has the highest score of those that are done."""
    dpo, ipo = tunings([*tried("dpo", 0.7, 0.8), *tried("ipo", 0.7, 0.8), *kit.drawn()], {"dpo": 0})
    assert (dpo.method, dpo.chosen) == ("dpo", 0)
    assert (ipo.method, ipo.chosen) == ("ipo", None)


def test_candidates_are_told_by_the_settings_that_tell_them_apart() -> None:
    (dpo,) = tunings(tried("dpo", 0.7, 0.8, seeds=2), {"dpo": 1})
    assert [one.settings for one in dpo.candidates] == [["train.optimizer.lr=1e-5"], ["train.optimizer.lr=2e-5"]]
    assert [one.score.value for one in dpo.candidates] == pytest.approx([0.705, 0.805])


@pytest.mark.parametrize(
    ("other", "alike"),
    [(tried("ipo", 0.7, 0.8), True), (tried("ipo", 0.7), False), (tried("ipo", 0.7, 0.8, seeds=2), False)],
)
def test_an_unequal_number_of_tries_is_seen(other: list[Outcome], *, alike: bool) -> None:
    assert equally_tuned(tunings([*tried("dpo", 0.7, 0.8), *other], {})) is alike


def test_a_grid_without_tuning_has_none() -> None:
    assert tunings(kit.drawn(seeds=[0]), {}) == []
