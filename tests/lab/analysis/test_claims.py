"""Verdicts on published claims."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

from prefopt.config.lab_page import AnalysisConfig, ClaimBounds
from prefopt.evaluation.statistics import Estimate
from prefopt.lab.analysis.ablation import ablations
from prefopt.lab.analysis.claims import Claim, Side, Verdict, claims
from prefopt.lab.analysis.duels import against
from prefopt.lab.grid import MEASURES, Grid
from prefopt.lab.outcome import BINS, Outcome
from prefopt.stages.minority import ONLINE
from tests.kit import lab as kit


def claim(found: Estimate | None, side: Side, bound: float) -> Claim:
    return Claim("2503.16921", "a claim", "a figure", side, bound, "share", found)


def verdicts(cells: Iterable[Outcome], words: str, asked: AnalysisConfig | None = None) -> set[str]:
    """Of all claims with these words."""
    found = [one for one in claims(Grid.of(cells), asked or AnalysisConfig()) if words in one.claim]
    assert found
    return {one.verdict for one in found}


@pytest.mark.parametrize(
    ("low", "high", "side", "bound", "verdict"),
    [
        (0.91, 0.95, "at least", 0.9, "holds"),
        (0.90, 0.95, "at least", 0.9, "holds"),
        (0.85, 0.95, "at least", 0.9, "not decided"),
        (0.80, 0.89, "at least", 0.9, "does not hold"),
        (0.60, 0.70, "at most", 0.75, "holds"),
        (0.70, 0.80, "at most", 0.75, "not decided"),
        (0.76, 0.80, "at most", 0.75, "does not hold"),
        (0.00, 0.10, "above", 0.0, "not decided"),
        (0.01, 0.10, "above", 0.0, "holds"),
        (-0.1, -0.01, "above", 0.0, "does not hold"),
    ],
)
def test_an_interval_decides_by_its_side_of_the_bound(
    low: float, high: float, side: Side, bound: float, verdict: Verdict
) -> None:
    assert claim(Estimate((low + high) / 2, low, high, 5), side, bound).verdict == verdict


def drawn_levels(count: int, own: float) -> list[Outcome]:
    """Flips of 20 %: Adaptive-DPO a little ahead of `count` methods that are all alike."""
    names = ["adaptive_dpo", "majority_vote", *(f"other {number}" for number in range(count - 1))]
    return kit.drawn(
        lambda method, noise: 0.212 if method == "adaptive_dpo" else 0.2, methods=names, noises=["flips-20"], own=own
    )


def test_what_one_test_shows_is_not_claimed_where_the_table_makes_many() -> None:
    """p is 0.046: enough alone, not after the correction over another duel that decides nothing."""
    leads = {"adaptive_dpo": (0.01, 0.02, 0.04, 0.05), "majority_vote": (0.0,) * 4, "ipo": (0.1, -0.1, 0.1, -0.1)}
    for others, verdict in ((["majority_vote"], "holds"), (["majority_vote", "ipo"], "not decided")):
        cells = [
            kit.outcome(method, "flips-20", seed, win_rates={"world/true": 0.7 + leads[method][seed]})
            for method in ("adaptive_dpo", *others)
            for seed in range(4)
        ]
        claimed = next(one for one in claims(Grid.of(cells), AnalysisConfig()) if one.by == "difference in win rate")
        assert claimed.measured is not None
        assert claimed.measured.low is not None
        assert claimed.measured.low > 0.0
        assert claimed.verdict == verdict
    assert "after Holm's correction" in claimed.why


@pytest.mark.parametrize("own", [0.003, 0.006, 0.012])
def test_claims_of_two_methods_say_what_their_tables_say(own: float) -> None:
    levels = {"dpo": 0.2, "dpo_ddim": 0.205, "dpo_renoise": 0.203, "smpo": 0.22}
    cells = [
        *drawn_levels(6, own),
        *kit.drawn(lambda method, noise: levels[method], methods=list(levels), noises=["clean"], own=own),
    ]
    grid, asked = Grid.of(cells), AnalysisConfig(ablation=tuple(levels))
    found = {(one.claim, one.by): one for one in claims(grid, asked) if one.compares}
    for measure in MEASURES:
        duels = against(grid, asked.adaptive, grid.shown(asked), measure)
        (vote,) = (one.difference for one in duels if one.second == "majority_vote")
        (table,) = ablations(grid, asked.ablation, measure)
        by = f"difference in {measure.name}"
        told = [found.pop(("adaptive_dpo beats majority_vote at 20% flips", by))]
        told += [
            found.pop((f"{step.method} is better than {before.method}", f"{by} at clean"))
            for before, step in pairwise(table.steps)
        ]
        shown = [vote, *(step.added for step in table.steps[1:])]
        assert [one.verdict != "not decided" for one in told] == [one.decided for one in shown if one]
    assert not found


def test_what_keeps_a_claim_undecided_is_told() -> None:
    assert claim(Estimate(0.95, None, None, 1), "at least", 0.9).why == "one seed"
    assert claim(Estimate(0.95, 0.8, 1.0, 3), "at least", 0.9).why == "the bound lies in the interval"
    assert claim(None, "at least", 0.9).why == "cells are missing"
    assert claim(Estimate(0.95, 0.92, 0.98, 3), "at least", 0.9).why == ""


@pytest.mark.parametrize("side", ["at least", "at most", "above"])
def test_without_a_spread_nothing_is_decided(side: Side) -> None:
    every, one = (claim(Estimate(1.0, None, None, n), side, 0.5) for n in (3, 1))
    assert (every.verdict, every.why) == ("not decided", "all 3 seeds equal")
    assert (one.verdict, one.why) == ("not decided", "one seed")


@pytest.mark.parametrize("lead", [0.05, -0.05, 0.0])
def test_one_difference_in_every_seed_decides_nothing(lead: float) -> None:
    cells = [
        kit.outcome(
            method,
            "flips-20",
            seed,
            win_rates={"world/true": 0.7 + 0.01 * seed + more},
            scores={"world/true": 0.6 + more},
            accuracy=0.6 + more,
        )
        for method, more in (("adaptive_dpo", lead), ("majority_vote", 0.0))
        for seed in range(3)
    ]
    assert verdicts(cells, "beats majority_vote") == {"not decided"}
    assert verdicts([one for one in cells if one.seed == 0], "beats majority_vote") == {"not decided"}


def test_seeds_without_enough_bins_are_named_in_the_claim() -> None:
    def bare(one: Outcome) -> Outcome:
        found = one.detected[ONLINE].model_copy(update={"labels": [4] * BINS, "flipped": [1] * BINS})
        return one.model_copy(update={"detected": {ONLINE: found}})

    cells = kit.drawn(methods=["adaptive_dpo"], noises=["flips-20"])
    few = [bare(one) if one.seed in (1, 3) else one for one in cells]
    (found,) = (one for one in claims(Grid.of(few), AnalysisConfig()) if "flipped labels rises with" in one.claim)
    assert found.by == "Spearman's correlation over bins, without seeds 1, 3"
    assert found.measured is not None
    assert found.measured.n == 3
    (none,) = (
        one for one in claims(Grid.of(map(bare, cells)), AnalysisConfig()) if "flipped labels rises with" in one.claim
    )
    assert (none.verdict, none.why) == ("not decided", "no seed has enough bins")


def test_claims_hold_where_the_methods_do_what_is_claimed() -> None:
    cells = kit.drawn()
    assert verdicts(cells, "adaptive_dpo keeps") == {"holds"}
    assert verdicts(cells, "dpo loses") == {"holds"}
    assert verdicts(cells, "finds flipped labels") == {"holds"}
    assert verdicts(cells, "flipped labels rises with") == {"holds"}
    assert verdicts(cells, "beats majority_vote") == {"holds"}


def test_verdicts_turn_when_the_methods_change_places() -> None:
    swapped = AnalysisConfig(reference="adaptive_dpo", adaptive="dpo")
    assert verdicts(kit.drawn(), "keeps", swapped) == {"does not hold"}
    assert verdicts(kit.drawn(), "loses", swapped) == {"does not hold"}
    behind = AnalysisConfig(adaptive="majority_vote", rivals=("adaptive_dpo",))
    assert verdicts(kit.drawn(), "beats", behind) == {"does not hold"}


def test_rivals_are_met_at_every_rate_asked_for_that_has_cells() -> None:
    cells = kit.drawn(methods=["adaptive_dpo", "dpo"], noises=["clean", "flips-10", "flips-20"])
    asked = AnalysisConfig(claims=ClaimBounds(rival_rates=(0.1, 0.2, 0.3)))
    told = dict.fromkeys(one.claim for one in claims(Grid.of(cells), asked) if "beats" in one.claim)
    assert list(told) == ["adaptive_dpo beats dpo at 10% flips", "adaptive_dpo beats dpo at 20% flips"]


def test_a_u_that_is_no_better_than_chance_does_not_hold() -> None:
    def blind(one: Outcome) -> Outcome:
        found = one.detected[ONLINE].model_copy(update={"auroc_flipped": 0.5 + 0.01 * one.seed})
        return one.model_copy(update={"detected": {ONLINE: found}})

    cells = [blind(one) for one in kit.drawn(methods=["adaptive_dpo"], noises=["flips-20"])]
    assert verdicts(cells, "finds flipped labels") == {"does not hold"}


def test_bounds_come_from_the_config() -> None:
    strict = AnalysisConfig(claims=ClaimBounds(kept=0.99, kept_rate=0.2, lost=0.5))
    told = [one.claim for one in claims(Grid.of(kit.drawn()), strict)]
    assert "adaptive_dpo keeps at least 99% of its clean gain at 20% flips" in told
    assert verdicts(kit.drawn(), "dpo loses at least 50%", strict) == {"does not hold"}


def test_nothing_is_decided_without_cells() -> None:
    asked = AnalysisConfig(ablation=("dpo", "smpo"), families={"dpo": ("a", "b"), "smpo": ("c", "d")})
    found = claims(Grid.of([]), asked)
    assert {(one.verdict, one.why) for one in found} == {("not decided", "cells are missing")}
    assert {one.claim for one in found} == {"smpo is better than dpo"}


def test_an_unclear_clean_gain_is_told_as_the_reason() -> None:
    cells = kit.drawn(lambda method, noise: 0.001, shared=0.05)
    found = [one for one in claims(Grid.of(cells), AnalysisConfig()) if "keeps" in one.claim]
    assert {one.why for one in found} == {"its clean gain is not clearly above 0"}


@pytest.mark.parametrize(("level", "verdict"), [(0.75, "holds"), (0.55, "does not hold")])
def test_less_work_for_the_same_quality_is_decided_at_the_stated_share(level: float, verdict: Verdict) -> None:
    cells = [
        kit.outcome(
            method, "clean", seed, accuracy=accuracy + 0.002 * seed * (seed + len(method)), cost=kit.cost(forwards)
        )
        for seed in range(4)
        for method, accuracy, forwards in (
            ("dpo-20", 0.6, 2000.0),
            ("dpo-60", 0.65, 6000.0),
            ("smpo-15", level, 1500.0),
            ("smpo-40", level + 0.02, 4000.0),
        )
    ]
    asked = AnalysisConfig(families={"dpo": ("dpo-20", "dpo-60"), "smpo": ("smpo-15", "smpo-40")})
    told = {one.by: one for one in claims(Grid.of(cells), asked) if "as good as" in one.claim}
    assert list(told) == [f"{measure.name} there, minus dpo's at its end" for measure in MEASURES]
    found = told["held-out accuracy there, minus dpo's at its end"]
    assert (found.claim, found.verdict) == (
        "smpo is as good as dpo after 33.3% of its UNet work, clean",
        verdict,
    )


def test_each_step_of_the_ablation_has_its_own_verdict() -> None:
    levels = {"dpo": 0.2, "dpo_ddim": 0.25, "smpo": 0.22}
    cells = kit.drawn(lambda method, noise: levels[method], methods=list(levels), noises=["clean"], seeds=range(8))
    asked = AnalysisConfig(ablation=tuple(levels))
    assert verdicts(cells, "dpo_ddim is better than dpo", asked) == {"holds"}
    assert verdicts(cells, "smpo is better than dpo_ddim", asked) == {"does not hold"}
