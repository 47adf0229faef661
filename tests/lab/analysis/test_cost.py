"""Quality against cost."""

import pytest

from prefopt.lab.analysis.cost import Spot, crossing, lead_at, lengths, reached
from prefopt.lab.grid import ACCURACY, Grid
from prefopt.lab.outcome import Outcome
from tests.kit import lab as kit

FAMILIES = {"dpo": ("dpo-20", "dpo-60"), "smpo": ("smpo-5", "smpo-10", "smpo-20")}
COSTS = {"dpo-20": 2000.0, "dpo-60": 6000.0, "smpo-5": 1000.0, "smpo-10": 2000.0, "smpo-20": 4000.0}


def cells(accuracies: dict[str, float], seeds: int = 3, step: float = 0.0) -> list[Outcome]:
    """`step`: what each further seed adds to all accuracies of smpo."""
    return [
        kit.outcome(
            method,
            "clean",
            seed,
            cost=kit.cost(COSTS[method]),
            accuracy=accuracy + (step * seed if method.startswith("smpo") else 0.0),
        )
        for method, accuracy in accuracies.items()
        for seed in range(seeds)
    ]


QUICK = {"dpo-20": 0.55, "dpo-60": 0.65, "smpo-5": 0.60, "smpo-10": 0.70, "smpo-20": 0.75}
SLOW = QUICK | {"smpo-5": 0.51, "smpo-10": 0.55, "smpo-20": 0.60}


def test_a_crossing_lies_where_the_line_between_two_lengths_meets_the_target() -> None:
    curve = [Spot(1000.0, 0.60), Spot(2000.0, 0.70), Spot(4000.0, 0.65)]
    assert crossing(curve, 0.65) == pytest.approx(1500.0)
    assert crossing(curve, 0.60) == 1000.0
    assert crossing(curve, 0.55) == 1000.0
    assert crossing(curve, 0.71) is None


def test_a_share_is_of_the_first_familys_whole_cost() -> None:
    grid = Grid.of(cells(QUICK, step=0.01))
    assert grid.clean is not None
    (found,) = reached(grid, grid.clean, FAMILIES, ACCURACY)
    assert found.shares == pytest.approx({0: 1500 / 6000, 1: 1400 / 6000, 2: 1300 / 6000})
    assert (found.reaching, found.at_most) == (3, False)
    assert found.share is not None
    assert found.share.low is not None
    assert found.share.low < 1400 / 6000 < (found.share.high or 0.0)


def test_a_method_that_never_gets_there_has_no_share() -> None:
    grid = Grid.of(cells(SLOW, step=0.03))
    assert grid.clean is not None
    (found,) = reached(grid, grid.clean, FAMILIES, ACCURACY)
    assert found.shares[0] is None
    assert found.shares[2] is not None
    assert (found.reaching, found.share) == (1, None)


def test_nothing_is_guessed_below_the_shortest_length() -> None:
    grid = Grid.of(cells(QUICK | {"smpo-5": 0.69}))
    assert grid.clean is not None
    (found,) = reached(grid, grid.clean, FAMILIES, ACCURACY)
    assert found.at_most
    assert set(found.shares.values()) == {1000 / 6000}
    assert lead_at(grid, grid.clean, FAMILIES, "smpo", ACCURACY, 0.1) is None


@pytest.mark.parametrize(("share", "lead"), [(0.25, 0.0), (1 / 3, 0.05), (0.5, 0.075), (2.0, 0.10)])
def test_the_lead_at_a_share_of_work_is_read_off_the_line(share: float, lead: float) -> None:
    grid = Grid.of(cells(QUICK))
    assert grid.clean is not None
    found = lead_at(grid, grid.clean, FAMILIES, "smpo", ACCURACY, share)
    assert found is not None
    assert found.estimate.value == pytest.approx(lead)


def test_seeds_without_the_first_familys_end_are_not_compared() -> None:
    grid = Grid.of(one for one in cells(QUICK) if (one.method, one.seed) != ("dpo-60", 1))
    assert grid.clean is not None
    (found,) = reached(grid, grid.clean, FAMILIES, ACCURACY)
    assert list(found.shares) == [0, 2]
    assert reached(Grid.of(cells({"dpo-20": 0.55})), grid.clean, FAMILIES, ACCURACY) == []


@pytest.mark.parametrize("length", ["dpo-20", "smpo-5", "smpo-20"])
def test_a_seed_that_lacks_a_length_takes_part_in_no_curve(length: str) -> None:
    """The curve of the others is not moved by it, whatever it says."""
    told = [
        one.model_copy(update={"accuracy": 0.9}) if one.seed == 1 and one.method != "dpo-60" else one
        for one in cells(QUICK)
    ]
    grid = Grid.of(one for one in told if (one.method, one.seed) != (length, 1))
    without = Grid.of(one for one in cells(QUICK) if one.seed != 1)
    assert grid.clean is not None
    assert reached(grid, grid.clean, FAMILIES, ACCURACY) == reached(without, grid.clean, FAMILIES, ACCURACY)
    family = length.split("-")[0]
    own, truth = (
        [one for one in lengths(each, grid.clean, FAMILIES, ACCURACY) if one.family == family]
        for each in (grid, without)
    )
    assert own == truth
    lead = lead_at(grid, grid.clean, FAMILIES, "smpo", ACCURACY, 0.5)
    assert lead is not None
    assert lead.estimate.n == 2


def test_a_family_without_a_whole_seed_has_no_lengths() -> None:
    grid = Grid.of(cells({"dpo-20": 0.55, "dpo-60": 0.65, "smpo-10": 0.7}))
    assert grid.clean is not None
    found = lengths(grid, grid.clean, FAMILIES, ACCURACY)
    assert [(one.method, one.forwards.value) for one in found] == [("dpo-20", 2000.0), ("dpo-60", 6000.0)]


def test_time_is_that_of_training_alone() -> None:
    grid = Grid.of(cells(QUICK))
    assert grid.clean is not None
    first = lengths(grid, grid.clean, FAMILIES, ACCURACY)[0]
    assert first.train_seconds.value == kit.cost(COSTS["dpo-20"]).train_seconds
