"""Each trajectory gets its verdict: made-up ones, and recorded runs of the embedded world."""

import math

import numpy as np
import pytest

from prefopt.health.figures import PairedEvaluation, Share, summarise
from prefopt.health.verdict import MIN_STEPS, Setting, VerdictName, explosion, fallen, judge
from tests.kit.health import pair_values, recorded, signals_of

SETTING = Setting(beta=2000.0, budget=0.1, window=50)


def window(steps=50, *, seed=0, pairs=32, beta=2000.0, winner=0.0, loser=0.0, spread=0.002, first=1):
    """Steps of a policy that has moved to stay."""
    rng = np.random.default_rng(seed)
    return [
        signals_of(step, pair_values(rng, pairs=pairs, beta=beta, winner=winner, loser=loser, spread=spread))
        for step in range(first, first + steps)
    ]


def name_of(steps, setting=SETTING, evaluations=()):
    return judge(steps, setting, evaluations)[0].name


def evaluation(step, value, low, high):
    return PairedEvaluation(step, Share(value, low, high, 100))


def test_a_healthy_policy_learns():
    verdict, figures = judge(window(winner=-0.001, loser=0.001), SETTING)
    assert verdict.name == VerdictName.LEARNING
    assert figures.accuracy.low > 0.5
    assert f"{100 * figures.accuracy.value:.1f}%" in verdict.sentence
    assert "1,600 pairs" in verdict.sentence


def test_learning_with_a_loss_near_ln_2_says_why():
    """The complaint heard most: the loss hovers at 0.693, yet the model gets better."""
    verdict, figures = judge(window(beta=500.0, winner=-0.0004, loser=0.0004, spread=0.001), SETTING)
    assert verdict.name == VerdictName.LEARNING
    assert abs(figures.loss - math.log(2)) < 0.02
    assert "near ln 2 = 0.693" in verdict.sentence
    assert "while the model gets better" in verdict.sentence


def test_learning_with_both_errors_rising_says_so():
    verdict, _ = judge(window(winner=0.02, loser=0.03), SETTING)
    assert verdict.name == VerdictName.LEARNING
    assert "Both errors rise (winners +2%, losers +3%)" in verdict.sentence
    assert "more than half of its budget" in judge(window(winner=0.06, loser=0.065), SETTING)[0].advice


def test_weights_do_not_confuse_the_loss_with_ln_2():
    """An objective with weights has a smaller loss: the sentence takes the loss without them."""
    steps = window(beta=500.0, winner=-0.0004, loser=0.0004, spread=0.001)
    weighted = []
    for step in steps:
        values = step.as_json()
        values["counters"]["loss"] *= 0.5
        weighted.append(type(step).from_json(values))
    assert "The loss without weights" in judge(weighted, SETTING)[0].sentence
    assert "The loss, 0.6" in judge(steps, SETTING)[0].sentence


@pytest.mark.parametrize(("winner", "loser"), [(0.01, 0.01), (-0.01, 0.02)])
def test_a_beta_that_is_too_small_is_told_by_its_factor(winner, loser):
    """With or without an accuracy above chance: nothing holds such a policy, and the loss cannot show it."""
    steps = window(beta=5.0, winner=winner, loser=loser, spread=0.01)
    verdict, figures = judge(steps, Setting(beta=5.0))
    assert verdict.name == VerdictName.BETA_TOO_SMALL
    assert figures.loss == pytest.approx(math.log(2), abs=0.01)
    assert "cannot leave ln 2" in verdict.sentence
    factor = 1.0 / figures.logit_rms
    shown = float(verdict.advice.split("factor of about ")[1].split(",")[0])
    assert shown == pytest.approx(factor, rel=0.05)
    grown = judge(window(beta=5.0 * shown, winner=winner, loser=loser, spread=0.01), SETTING)[1]
    assert grown.logit_rms == pytest.approx(1.0, rel=0.05)


def test_noise_as_labels_teaches_nothing():
    verdict, figures = judge(window(winner=0.0, loser=0.0, spread=0.02), SETTING)
    assert verdict.name == VerdictName.NOTHING_LEARNED
    assert figures.accuracy.low <= 0.5
    assert figures.logit_rms > 0.1
    assert "labels may be noise" in verdict.advice


def test_a_policy_that_stands_still_is_told_apart_from_a_small_beta():
    verdict, _ = judge(window(spread=1e-4), SETTING)
    assert verdict.name == VerdictName.NOTHING_LEARNED
    assert "hardly moved" in verdict.sentence
    assert "train.optimizer.lr" in verdict.advice


def test_winning_images_outweigh_a_flat_accuracy():
    """The win rate may rise while loss and training accuracy are flat."""
    steps = window(spread=0.02)
    assert name_of(steps) == VerdictName.NOTHING_LEARNED
    verdict = judge(steps, SETTING, [evaluation(40, 0.7, 0.6, 0.8)])[0]
    assert verdict.name == VerdictName.LEARNING
    assert verdict.sentence.startswith("Images get better")
    assert "win 70.0% (95% interval 60.0% to 80.0%)" in verdict.sentence


def test_a_loser_that_alone_rises_exceeds_the_budget():
    verdict, _ = judge(window(winner=0.15, loser=0.2), SETTING)
    assert verdict.name == VerdictName.BUDGET_EXCEEDED
    assert "+15%" in verdict.sentence
    assert "+20%" in verdict.sentence
    assert "losers get worse faster" in verdict.sentence
    assert "Winners get worse faster" in judge(window(winner=0.2, loser=0.15), SETTING)[0].sentence
    assert name_of(window(winner=0.15, loser=0.2), Setting(budget=None)) != VerdictName.BUDGET_EXCEEDED


def test_the_budget_sees_a_sudden_rise():
    steps = window(38, winner=0.0, loser=0.01) + window(12, first=39, winner=0.2, loser=0.21)
    assert summarise(steps).winner_drift < 0.1
    assert name_of(steps) == VerdictName.BUDGET_EXCEEDED


def test_settled_pairs_saturate():
    verdict, figures = judge(window(winner=-0.05, loser=0.05), SETTING)
    assert verdict.name == VerdictName.SATURATED
    assert figures.saturated > 0.5
    assert "less than 5% of the gradient" in verdict.sentence


def test_a_forgotten_model_has_collapsed():
    verdict, _ = judge(window(38, winner=0.02, loser=0.03) + window(12, first=39, winner=1.5, loser=1.5), SETTING)
    assert verdict.name == VerdictName.COLLAPSED
    assert "2.5 times the reference's" in verdict.sentence


def test_figures_that_are_not_finite_are_a_collapse_at_once():
    steps = window(3)
    values = pair_values(np.random.default_rng(0), winner=0.0, loser=0.0)
    values["loss"][5] = math.nan
    assert name_of([*steps, signals_of(4, values)]) == VerdictName.COLLAPSED


def test_an_exploding_gradient_is_a_collapse():
    rng = np.random.default_rng(0)
    values = pair_values(rng, winner=-0.001, loser=0.001)

    def steps(last):
        return [signals_of(s, values, grad_norm=1.0 if s <= 38 else last) for s in range(1, 51)]

    assert explosion(steps(5.0)) == 5.0
    assert name_of(steps(5.0)) == VerdictName.LEARNING
    assert name_of(steps(100.0)) == VerdictName.COLLAPSED
    assert explosion(steps(100.0)[-5:]) == 1.0


def test_images_that_lose_after_they_had_won_are_a_collapse():
    won, even, lost = evaluation(10, 0.7, 0.6, 0.8), evaluation(20, 0.5, 0.4, 0.6), evaluation(30, 0.2, 0.1, 0.3)
    assert not fallen([])
    assert not fallen([lost])
    assert not fallen([won, even])
    assert fallen([won, even, lost])
    verdict = judge(window(winner=-0.001, loser=0.001), SETTING, [won, lost])[0]
    assert verdict.name == VerdictName.COLLAPSED
    assert "at step 10 they won 70.0%" in verdict.sentence


def test_nothing_is_judged_too_early():
    verdict, _ = judge(window(MIN_STEPS - 1, winner=-0.02, loser=0.05), SETTING)
    assert verdict.name == VerdictName.WARMING_UP
    assert "its gradient is not 0" in verdict.sentence
    assert name_of(window(MIN_STEPS, pairs=2, winner=-0.02, loser=0.05)) == VerdictName.WARMING_UP
    assert "step 50" in judge(window(MIN_STEPS, pairs=2), SETTING)[0].advice
    later = judge(window(5, first=41), SETTING)[0]
    assert "step 60" in later.advice
    assert "starts as its reference" not in later.sentence


def test_a_full_window_is_enough_however_small():
    """A small batch or a short window must not warm up for ever; a window of skipped steps alone says nothing."""
    small = Setting(window=10)
    assert name_of(window(10, pairs=2, spread=0.02), small) == VerdictName.NOTHING_LEARNED
    assert name_of(window(10, winner=-0.05, loser=0.05), small) == VerdictName.SATURATED
    assert "step 10." in judge(window(5), small)[0].advice
    values = pair_values(np.random.default_rng(0), winner=0.0, loser=0.0)
    assert name_of([signals_of(step, values, applied=False) for step in range(1, 11)], small) == VerdictName.WARMING_UP


def test_flatness_waits_for_the_learning_rate_and_for_enough_pairs():
    assert name_of(window(spread=0.02), Setting(warmup_steps=50)) == VerdictName.WARMING_UP
    assert name_of(window(spread=0.02), Setting(warmup_steps=49)) == VerdictName.NOTHING_LEARNED
    assert name_of(window(49, spread=0.02)) == VerdictName.WARMING_UP


def test_skipped_steps_are_counted_out_loud():
    values = pair_values(np.random.default_rng(0), winner=0.0, loser=0.0)
    skipped = [signals_of(step, values, applied=False) for step in range(1, 4)]
    steps = skipped + window(47, first=4, winner=-0.001, loser=0.001)
    assert "3 of 50 steps were skipped" in judge(steps, SETTING)[0].sentence
    assert name_of(skipped) == VerdictName.WARMING_UP


def test_an_objective_without_a_reference_is_judged_by_what_there_is():
    values = {"loss": np.ones(32), "timestep": np.zeros(32)}
    steps = [signals_of(step, values) for step in range(1, 51)]
    verdict = judge(steps, SETTING)[0]
    assert verdict.name == VerdictName.LEARNING
    assert "no accuracy to judge by" in verdict.sentence


def walk(name, beta):
    """The verdicts of a recorded run, every 10 steps over the last 50."""
    steps = list(recorded(name))
    setting = Setting(beta=beta, warmup_steps=10)
    return [name_of(steps[max(0, end - 50) : end], setting) for end in range(10, len(steps) + 1, 10)]


def test_no_false_alarm_on_healthy_runs():
    """The quickstart (a fifth of the labels flipped), and plain DPO on the same: 150 steps, and 100 with LoRA."""
    warm, learning = VerdictName.WARMING_UP, VerdictName.LEARNING
    assert walk("lora", 2000.0) == [warm, warm, *[learning] * 8]
    assert walk("quickstart", 2000.0) == [warm, warm, *[learning] * 4]
    assert walk("dpo", 2000.0) == [warm, *[learning] * 14]


def test_a_recorded_run_with_a_beta_that_is_too_small():
    """beta 2: flat, and soon the errors run away because nothing holds them."""
    small, budget = VerdictName.BETA_TOO_SMALL, VerdictName.BUDGET_EXCEEDED
    found = walk("beta_too_small", 2.0)
    assert found[0] == VerdictName.WARMING_UP
    assert found[1] == small
    assert found[-1] == budget
    assert set(found[1:]) == {small, budget}


def test_a_recorded_run_with_a_rate_that_is_too_high():
    """lr 1e-3, twenty times the quickstart's: seen at the first judgement."""
    assert walk("rate_too_high", 2000.0) == [VerdictName.WARMING_UP, *[VerdictName.COLLAPSED] * 5]


def test_the_advice_after_a_collapse_can_be_followed():
    """A changed rate is another run: nobody can go back to a checkpoint by hand."""
    verdict, _ = judge(window(winner=2.0, loser=2.0), SETTING)
    assert verdict.name == VerdictName.COLLAPSED
    assert "go back to a checkpoint" not in verdict.advice
    assert "train again with a smaller train.optimizer.lr" in verdict.advice
    assert "starts from its first step" in verdict.advice
