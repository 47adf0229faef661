"""The guard's decisions, one by one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.health import GuardConfig
from prefopt.health.guard import GO_ON, Decision, GuardState, after_roll_back, decide
from prefopt.health.verdict import ALARMS, Verdict, VerdictName

BAD = Verdict(VerdictName.COLLAPSED, "It broke.", "Mend it.")
GOOD = Verdict(VerdictName.LEARNING, "It learns.", "Nothing.")


def walk(steps, **config):
    """Decisions over (applied, verdict), and the last state."""
    state, decisions = GuardState(), []
    for number, (applied, verdict) in enumerate(steps, start=1):
        decision, state = decide(number, applied=applied, verdict=verdict, config=GuardConfig(**config), state=state)
        decisions.append(decision)
    return decisions, state


@pytest.mark.parametrize("name", sorted(VerdictName))
def test_a_guard_acts_on_alarms_alone(name):
    (decision,), state = walk([(True, Verdict(name, "", ""))], action="lower_rate")
    assert (decision.action == "lower_rate") == (name in ALARMS)
    assert state.taken == (name in ALARMS)


def test_by_default_nothing_happens():
    decisions, state = walk([(True, BAD)] * 20)
    assert set(decisions) == {GO_ON}
    assert state.rate == 1.0


def test_pause_stops_with_the_reason():
    (decision,), _ = walk([(True, BAD)], action="pause")
    assert decision.action == "stop"
    for words in ("step 1", "collapsed", "It broke.", "Mend it."):
        assert words in decision.reason


def test_the_rate_falls_until_enough():
    decisions, state = walk([(True, BAD)] * 4, action="lower_rate", rate_factor=0.5, most=3)
    assert [decision.action for decision in decisions] == ["lower_rate"] * 3 + ["stop"]
    assert state.rate == 0.125
    assert "`lower rate` 3 times" in decisions[-1].reason


def test_a_roll_back_goes_before_the_last_good_verdict():
    decisions, state = walk([(True, GOOD), (True, None), (True, BAD)], action="roll_back")
    assert decisions[-1] == Decision("roll_back", not_after=0)
    assert (state.rate, state.taken) == (0.5, 1)


def test_a_roll_back_is_remembered_by_the_state_that_it_returns_to():
    then = GuardState(good_step=50)
    now = GuardState(rate=0.5, taken=1, skipped_in_a_row=2, good_step=90)
    assert after_roll_back(then, now) == GuardState(rate=0.5, taken=1, skipped_in_a_row=0, good_step=50)


def test_skipped_steps_stop_in_a_row_only():
    seen = [(False, None), (False, None), (True, None)] * 3
    assert {decision.action for decision in walk(seen, skipped_steps=3)[0]} == {"go on"}
    decisions, state = walk([(True, None), *[(False, None)] * 3], skipped_steps=3)
    assert [decision.action for decision in decisions] == ["go on"] * 3 + ["stop"]
    assert "step 4: 3 steps in a row were skipped" in decisions[-1].reason
    assert state.skipped_in_a_row == 3


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, GOOD, BAD])), max_size=40),
    st.sampled_from(["none", "pause", "lower_rate", "roll_back"]),
    st.integers(1, 3),
    st.integers(0, 40),
)
def test_a_guard_that_was_saved_goes_on_alike(steps, action, most, cut):
    """Interrupted anywhere, with its state through JSON, it decides the same; and it never acts more than `most`."""
    config = GuardConfig(action=action, most=most, skipped_steps=4)
    straight, saved = GuardState(), GuardState()
    for number, (applied, verdict) in enumerate(steps, start=1):
        if number == cut:
            saved = GuardState.from_json(json.loads(json.dumps(saved.as_json())))
        first, straight = decide(number, applied=applied, verdict=verdict, config=config, state=straight)
        second, saved = decide(number, applied=applied, verdict=verdict, config=config, state=saved)
        assert (first, straight) == (second, saved)
        assert straight.taken <= most
        assert straight.rate == 0.5**straight.taken
