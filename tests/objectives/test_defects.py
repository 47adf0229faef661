"""Defects of public code that the objectives do not have, or keep only in a mode that says so.

Elsewhere: 0/0 in phi (test_mapo), the metric's and the averages' (tests/minority/test_defects), the inversion's
(tests/diffusion/test_defects).
"""

import math

import pytest
import torch

from prefopt.minority.metric import minority_metric
from prefopt.minority.scale import RunningScale
from prefopt.objectives import PairErrors
from prefopt.objectives.smpo import relabel, reward_preference
from tests.objectives.pairs import column, evaluate, from_gap, make, random_table


def test_the_log_sigmoid_comes_before_the_mean() -> None:
    """Defect: an early script took the log-sigmoid of the batch's mean logit."""
    z = column(2e-3, -2e-3)
    mean = evaluate("dpo", from_gap(z)).loss.mean().item()
    assert mean > math.log(2)
    assert mean == pytest.approx(sum(math.log(1 + math.exp(-5 * sign)) for sign in (1, -1)) / 2)


def test_ipo_runs_with_the_settings_it_declares() -> None:
    """Defect: a script's ipo branch reads a setting that does not exist."""
    assert evaluate("ipo", from_gap(column(0.02)), tau=10.0).loss.item() == pytest.approx((0.02 - 1 / 20) ** 2)


def test_only_the_published_form_adds_the_margin() -> None:
    """Defect: the sigmoid branch subtracts G, the IPO branch adds it. A larger G must ask for a larger gap."""

    def slope_by_margin(name: str, **params: object) -> float:
        mean = 2e-4
        low, high = (
            evaluate(name, from_gap(column(1e-3), u=column(0.0), margin_mean=value), **params).loss.item()
            for value in (0.0, mean)
        )
        return high - low

    assert slope_by_margin("adaptive_dpo", margin_scale="logit") > 0
    assert slope_by_margin("adaptive_ipo", margin_scale="logit", form="logit", tau=0.25) > 0
    assert slope_by_margin("adaptive_ipo", margin_scale="logit", form="published") < 0


def test_every_pair_has_its_own_alpha() -> None:
    """Defect: the first row's soft label and winner serve the whole batch."""
    table = random_table(8)
    whole = evaluate("smpo", make(table), beta=3.0)
    alone = [evaluate("smpo", make(table[:, i : i + 1]), beta=3.0).loss for i in range(8)]
    torch.testing.assert_close(whole.loss, torch.cat(alone))
    factors = torch.as_tensor(whole.metrics["factor"])
    assert len(set(factors.tolist())) == 8


def test_normalisation_and_strength_are_settings() -> None:
    """Defect: PickScore's extremes and a factor of 10 are fixed in the code."""
    first, second = column(0.9), column(0.1)
    assert reward_preference(first, second, 0.0, 1.0).item() == pytest.approx(1 / (1 + math.exp(-0.8)))
    assert reward_preference(first, second, 0.0, 2.0).item() == pytest.approx(1 / (1 + math.exp(-0.4)))
    alpha = column(0.8)
    weak, strong = (
        float(evaluate("smpo", from_gap(column(1.0), alpha=alpha), gamma=g).metrics["factor"]) for g in (1, 7)
    )
    assert (weak, strong) == (pytest.approx(0.6), pytest.approx(4.2))


def test_the_human_label_counts_where_it_is_asked_to() -> None:
    """Defect for noise studies: the reward decides the winner, so that flipped labels leave no trace."""
    p_reward, flipped, clean = column(0.9), column(0.0), column(1.0)
    assert relabel("reward", p_reward, flipped).item() == relabel("reward", p_reward, clean).item()
    for rule in ("human_floor", "blend"):
        assert relabel(rule, p_reward, flipped).item() != relabel(rule, p_reward, clean).item()


def test_a_tie_never_becomes_a_winner() -> None:
    """Defect: a label of 0.5 makes the first image the winner."""
    for x in (-1.0, 1.0):
        tie = from_gap(column(x), label=column(0.5), alpha=relabel("human_floor", column(0.9), column(0.5)))
        assert evaluate("smpo", tie).loss.item() == pytest.approx(math.log(2))
        mirrored = from_gap(column(-x), label=column(0.5))
        assert evaluate("weighted_dpo", tie).loss.item() == evaluate("weighted_dpo", mirrored).loss.item()


def test_no_gap_counts_as_half_right() -> None:
    """Defect: the strict rule counts a policy at rest as wrong on every pair."""
    errors = PairErrors(*(column(value) for value in (0.3, 0.4, 0.3, 0.4)))
    for name in ("dpo", "ipo", "kto"):
        assert float(evaluate(name, errors).metrics["accuracy"]) == 0.5


@pytest.mark.parametrize("weight", ["linear", "quadratic", "sqrt", "sigmoid"])
def test_warm_up_weighs_like_an_undisputed_pair(weight: str) -> None:
    """Pairs of a running scale in warm-up weigh what a pair on which all annotators agree weighs after it."""
    z = torch.tensor([[-2e-3, 1e-3], [1e-3, 1e-3], [-1e-3, 2e-3]]).double()
    agreed = torch.tensor([[1e-3]] * 3).double()
    scale = RunningScale(3, warmup=1)

    def weights(gaps: torch.Tensor) -> torch.Tensor:
        u = minority_metric(scale.scale(gaps, 3.75)).u
        errors = from_gap(gaps[0], u=u, margin_mean=0.0)
        return torch.as_tensor(evaluate("adaptive_dpo", errors, weight=weight).metrics["weight"])

    during = weights(z)
    scale.update([4e-6] * 3, 0.0, 2)
    assert torch.equal(during, weights(agreed).expand(2))
    assert weights(z)[0] < during[0]


def test_losers_do_not_dilute_sft() -> None:
    """Defect: a script multiplies all errors by the label, so that losers add zeros to the mean."""
    table = random_table(10)
    assert evaluate("sft", make(table)).loss.mean().item() == pytest.approx(float(table[0].mean()))
