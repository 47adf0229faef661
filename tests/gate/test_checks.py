"""The gate's questions, on figures that can be worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from prefopt.config.evaluate import BootstrapConfig
from prefopt.config.gate import GateConfig
from prefopt.evaluation.statistics import Resampling
from prefopt.gate.checks import accuracy_check, agreement, one_sided, slice_check, spread_checks, win_rate_check

HOW = Resampling(BootstrapConfig(resamples=500), 0)
GATE = GateConfig(slice_prompts=4)


def wins(won: int, lost: int, tied: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores of challenger and champion, a prompt each."""
    mine = np.array([1.0] * won + [0.0] * lost + [0.5] * tied)
    return mine, np.full(len(mine), 0.5), [f"prompt {n}" for n in range(len(mine))]


def test_the_test_is_exact_and_one_sided() -> None:
    assert one_sided(5, 0, 0.5) == pytest.approx(1 / 32)
    assert one_sided(0, 5, 0.5) == pytest.approx(1.0)
    assert one_sided(0, 0, 0.5) == 1.0
    assert one_sided(9, 1, 0.6) == pytest.approx(stats.binom.sf(8, 10, 0.6))


def test_a_challenger_must_clear_the_bar_at_the_nights_level() -> None:
    scores = wins(30, 10, 5)
    p = one_sided(30, 10, 0.5)
    passed = win_rate_check("r", *scores, GATE, HOW, "half", level=p)
    assert (passed.answer, passed.prompts, passed.p) == ("passed", 45, p)
    assert passed.value == pytest.approx((30 + 2.5) / 45)
    assert win_rate_check("r", *scores, GATE, HOW, "half", level=0.99 * p).answer == "failed"
    higher = GateConfig(win_rate=0.7)
    assert win_rate_check("r", *scores, higher, HOW, "half", level=0.4).answer == "failed"


def test_images_of_one_prompt_are_one_witness() -> None:
    mine, theirs, _ = wins(40, 0)
    found = win_rate_check("r", mine, theirs, ["one"] * 40, GATE, HOW, "half", level=0.2)
    assert (found.p, found.low, found.answer) == (0.5, None, "failed")


@pytest.mark.parametrize(("won", "lost", "answer"), [(4, 6, "passed"), (39, 61, "failed"), (2, 1, "not_judged")])
def test_a_slice_may_fall_as_far_as_its_tolerance(won: int, lost: int, answer: str) -> None:
    found = slice_check("set: animals", *wins(won, lost), GATE, HOW, "half")
    assert (found.answer, found.bound) == (answer, pytest.approx(0.4))


def test_accuracy_is_compared_pair_by_pair() -> None:
    mine, theirs = np.array([1.0, 1.0, -1.0, -1.0, 0.0]), np.array([1.0, -1.0, -1.0, 1.0, 1.0])
    prompts = list("abcde")
    found = accuracy_check("accuracy", "new pairs", mine, theirs, prompts, GATE, HOW)
    assert found.value == pytest.approx((0 + 1 + 0 - 1 - 0.5) / 5)
    assert (found.answer, found.bound) == ("failed", -0.05)
    lenient = GATE.model_copy(update={"accuracy_tolerance": 0.1})
    assert accuracy_check("accuracy", "new pairs", mine, theirs, prompts, lenient, HOW).answer == "passed"


def test_a_groups_votes_turn_the_gaps() -> None:
    gaps = {"p": np.array([1.0, 2.0]), "q": np.array([3.0, -4.0])}
    turned = agreement(gaps, ["q", "p", "q"], [True, False, False])
    assert turned.tolist() == [3.0, -4.0, -1.0, -2.0, -3.0, 4.0]


def test_distance_and_diversity_are_in_units_of_the_bases_diversity() -> None:
    diversity = {"base": 0.2, "tuned": 0.15}
    distance, kept = spread_checks("vae", diversity, 0.1, GateConfig(distance=0.5), 20, "base", "tuned")
    assert (distance.name, distance.value, distance.answer) == ("distance", pytest.approx(0.5), "passed")
    assert (kept.name, kept.value, kept.answer) == ("diversity", pytest.approx(0.75), "failed")
    assert spread_checks("vae", {"base": 0.0, "tuned": 0.1}, 0.1, GATE, 20, "base", "tuned") == []
