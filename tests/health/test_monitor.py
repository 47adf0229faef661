"""The monitor: what it says when, and that it goes on alike after an interruption or a roll-back."""

import json
import math

import numpy as np
import pytest

from prefopt.config.train import TrainConfig
from prefopt.health.figures import Share
from prefopt.health.monitor import HealthMonitor
from prefopt.health.verdict import VerdictName
from tests.kit.health import pair_values


def train_config(**changed):
    tree = {"steps": 200, "objective": {"name": "dpo", "beta": 2000}, "health": {"window": 50}, **changed}
    return TrainConfig.model_validate(tree)


def observe(monitor, step, *, applied=True, grad_norm=1.0, winner=-0.001, loser=0.001):
    values = pair_values(np.random.default_rng(step), winner=winner, loser=loser)
    return monitor.observe(step, applied=applied, grad_norm=grad_norm, values=values)


def test_a_verdict_comes_every_fifth_of_the_window_and_at_the_end():
    monitor = HealthMonitor(train_config(steps=57))
    said = {step for step in range(1, 58) if observe(monitor, step).verdict}
    assert said == {10, 20, 30, 40, 50, 57}


def test_a_new_verdict_is_marked():
    monitor = HealthMonitor(train_config())
    changed = {step for step in range(1, 51) if observe(monitor, step).changed}
    assert changed == {10, 20}


def test_the_window_slides():
    monitor = HealthMonitor(train_config(health={"window": 10, "timestep_buckets": 3}))
    lines = [observe(monitor, step).line for step in range(1, 31)]
    last = [line for line in lines if line][-1]
    assert (last["first"], last["last"], last["step"], last["pairs"]) == (21, 30, 30, 320)
    assert len(last["accuracy_by_timestep"]) == 3


def test_lines_are_plain_json_without_time():
    monitor = HealthMonitor(train_config())
    monitor.evaluated(40, Share(0.6, 0.5, 0.7, 32))
    (line,) = [line for step in range(1, 51) if (line := observe(monitor, step).line) and step == 50]
    assert json.loads(json.dumps(line, allow_nan=False)) == json.loads(json.dumps(line))
    assert line["verdict"] == "learning"
    assert line["evaluation"] == {"step": 40, "value": 0.6, "low": 0.5, "high": 0.7, "n": 32, "broken": 0}
    assert (line["action"], line["rate"]) == ("go on", 1.0)
    assert not {"time", "seconds", "host"} & line.keys()


def test_the_guard_lowers_the_rate_and_looks_afresh():
    monitor = HealthMonitor(train_config(guard={"action": "lower_rate"}))
    seen = [observe(monitor, step, winner=0.3, loser=0.3) for step in range(1, 51)]
    actions = {step: one.decision.action for step, one in enumerate(seen, 1) if one.decision.action != "go on"}
    assert actions == {20: "lower_rate", 40: "lower_rate"}
    assert monitor.rate == 0.25
    assert seen[19].line["action"] == "lower_rate"
    assert seen[29].verdict.name == VerdictName.WARMING_UP


def test_skipped_steps_stop_training():
    monitor = HealthMonitor(train_config(guard={"skipped_steps": 3}))
    seen = [observe(monitor, step, applied=step < 5, grad_norm=math.nan) for step in range(1, 8)]
    assert [one.decision.action for one in seen] == ["go on"] * 6 + ["stop"]
    assert seen[5].figures["winner_drift"] is None


@pytest.mark.parametrize("cut", [1, 19, 20, 33])
def test_an_interrupted_run_goes_on_alike(cut):
    config = train_config(guard={"action": "lower_rate"}, health={"window": 20})
    straight, resumed = HealthMonitor(config), HealthMonitor(config)
    for step in range(1, 61):
        moved = 0.3 if step > 25 else 0.0
        if step == cut:
            state = json.loads(json.dumps(resumed.state_dict(), allow_nan=False))
            resumed = HealthMonitor(config)
            resumed.load_state_dict(state)
        for monitor in (straight, resumed):
            if step == 15:
                monitor.evaluated(step, Share(0.6, 0.5, 0.7, 32))
        assert observe(straight, step, winner=moved) == observe(resumed, step, winner=moved)
    assert straight.state_dict() == resumed.state_dict()


def test_an_empty_state_is_that_of_a_new_run():
    monitor = HealthMonitor(train_config())
    monitor.load_state_dict({})
    assert monitor.state_dict() == HealthMonitor(train_config()).state_dict()


def test_a_roll_back_keeps_the_lowered_rate_and_ends():
    """The same collapse again and again: after `most` roll-backs the guard stops."""
    monitor = HealthMonitor(train_config(guard={"action": "roll_back", "most": 2}, health={"window": 20}))
    saved, step, roll_backs = monitor.state_dict(), 0, []
    while step < 200:
        step += 1
        seen = observe(monitor, step, winner=1.5 if step > 30 else 0.0, loser=1.5 if step > 30 else 0.01)
        if step == 20:
            saved = json.loads(json.dumps(monitor.state_dict()))
        if seen.decision.action == "roll_back":
            roll_backs.append((step, seen.decision.not_after))
            monitor.roll_back(saved)
            step = 20
        if seen.decision.action == "stop":
            break
    assert roll_backs == [(32, 27), (32, 27)]
    assert "2 times already" in seen.decision.reason
    assert monitor.rate == 0.25


def test_all_workers_decide_alike():
    """The same global figures give the same observations, whatever order a dict has."""
    first, second = HealthMonitor(train_config()), HealthMonitor(train_config())
    for step in range(1, 51):
        values = pair_values(np.random.default_rng(step), winner=0.0, loser=0.0)
        turned = dict(reversed(values.items()))
        one = first.observe(step, applied=True, grad_norm=1.0, values=values)
        two = second.observe(step, applied=True, grad_norm=1.0, values=turned)
        assert one == two


WON, LOST = Share(1.0, 0.676, 1.0, 8), Share(0.0, 0.0, 0.324, 8)


def interrupted(monitor, config):
    """The monitor of a run that goes on from a checkpoint of now."""
    resumed = HealthMonitor(config)
    resumed.load_state_dict(json.loads(json.dumps(monitor.state_dict(), allow_nan=False)))
    return resumed


@pytest.mark.parametrize(("action", "taken"), [("lower_rate", "lower_rate"), ("pause", "stop")])
def test_a_lost_evaluation_is_acted_upon_once(action, taken):
    """Each evaluation once, also by the run that goes on after a pause; the next one counts again."""
    config = train_config(steps=400, guard={"action": action})
    monitor, actions = HealthMonitor(config), {}
    for step in range(1, 331):
        seen = observe(monitor, step)
        if step in (100, 200, 300):
            monitor.evaluated(step, WON if step == 100 else LOST)
        if seen.decision.action != "go on":
            actions[step] = seen.decision.action
            monitor = interrupted(monitor, config)
    assert actions == {210: taken, 310: taken}


def test_after_a_roll_back_the_evaluation_of_the_same_step_counts_again():
    config = train_config(guard={"action": "roll_back"})
    monitor = HealthMonitor(config)
    monitor.evaluated(20, WON)
    saved, rolled_back = {}, []
    step = 20
    while len(rolled_back) < 2 and step < 100:
        step += 1
        if step == 31:
            saved = json.loads(json.dumps(monitor.state_dict()))
        seen = observe(monitor, step)
        if seen.decision.action == "roll_back":
            rolled_back.append(step)
            monitor.roll_back(saved)
            step = 30
        elif step == 45:
            monitor.evaluated(step, LOST)
    assert rolled_back == [50, 50]


class Scaler:
    """fp16's loss scale as DeepSpeed keeps it: one overflow is borne, each further one halves the scale down to 1."""

    def __init__(self, largest):
        self.scale, self.borne, self.largest = 2.0**16, 1, largest

    def step(self):
        """Whether a step is applied whose scaled gradients overflow above `largest`."""
        if self.scale <= self.largest:
            return True
        if self.borne:
            self.borne -= 1
        else:
            self.scale = max(1.0, self.scale / 2)
        return False


@pytest.mark.parametrize(("largest", "stops"), [(2.0**12, None), (1.0, None), (0.5, 22)])
def test_a_loss_scale_may_fall_to_its_least_and_no_further(largest, stops):
    monitor = HealthMonitor(train_config(precision="fp16", guard={"skipped_steps": 5}))
    scaler, stopped = Scaler(largest), None
    for step in range(1, 41):
        applied = scaler.step()
        seen = observe(monitor, step, applied=applied, grad_norm=1.0 if applied else math.inf)
        if seen.decision.action == "stop":
            stopped = step
            break
    assert stopped == stops
    if stops:
        assert "22 steps in a row were skipped" in seen.decision.reason
