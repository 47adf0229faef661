"""What training does by itself when a verdict is bad: a pure state machine. Source: prefopt.

All workers see the same global figures, so all decide the same.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from prefopt.config.health import GuardConfig
from prefopt.health.verdict import ALARMS, Verdict

SCALING_STEPS = 17
"""Steps in a row that fp16 may skip to lower its loss scale: DeepSpeed bears one overflow, then halves 2^16 to 1."""

Action = Literal["go on", "stop", "lower_rate", "roll_back"]


@dataclass(frozen=True)
class GuardState:
    """What a guard remembers."""

    rate: float = 1.0
    """The learning rate is multiplied by it."""
    taken: int = 0
    """How often an action was taken."""
    skipped_in_a_row: int = 0
    """Without those that only lowered the loss scale."""
    scaled_in_a_row: int = 0
    """Steps that only lowered the loss scale since the last one that was applied."""
    good_step: int = 0
    """The last step whose verdict asked for nothing."""
    evaluated: int = 0
    """The paired evaluations up to this step have been acted upon: none counts a second time."""

    def as_json(self) -> dict[str, Any]:
        """Plain numbers that survive JSON exactly."""
        return asdict(self)

    @property
    def vouched(self) -> int:
        """The last step whose weights a good verdict has judged: a step's figures are those of the weights before
        it."""
        return max(0, self.good_step - 1)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "GuardState":
        """From `as_json`."""
        return GuardState(**values)


@dataclass(frozen=True)
class Decision:
    """What training does after a step."""

    action: Action
    reason: str = ""
    """For the user, where training stops; what to do is in it."""
    not_after: int | None = None
    """`roll_back`: go back to the newest checkpoint that is not after this step, `GuardState.vouched`."""


GO_ON = Decision("go on")


def decide(
    step: int,
    *,
    applied: bool,
    verdict: Verdict | None,
    config: GuardConfig,
    state: GuardState,
    evaluated: int = 0,
    scaling: bool = False,
) -> tuple[Decision, GuardState]:
    """The decision after a step counted from 1, and the guard's next state.

    `verdict` is None where none was made; `evaluated` is the step of the latest paired evaluation that it rests on.
    Stops after `config.skipped_steps` skipped steps in a row whatever `config.action` is, and on a bad verdict once
    the action has been taken `config.most` times. A step that was skipped since fp16's loss scale was too high for it
    (`scaling`) is no such step, up to SCALING_STEPS in a row.
    """
    state = _count(applied, scaling, state)
    if state.skipped_in_a_row >= config.skipped_steps:
        return Decision("stop", _skipped(step, state.skipped_in_a_row + state.scaled_in_a_row)), state
    if verdict is None:
        return GO_ON, state
    if verdict.name not in ALARMS:
        return GO_ON, replace(state, good_step=step)
    decision, state = _act(step, verdict, config, state)
    if decision.action != "go on":
        state = replace(state, evaluated=max(state.evaluated, evaluated))
    return decision, state


def after_roll_back(checkpoint: GuardState, now: GuardState) -> GuardState:
    """The state after going back to a checkpoint: its steps, but the actions and the rate of now.

    Without it, the same collapse would be rolled back for ever. Evaluations after the checkpoint are made anew, and so
    count anew.
    """
    return replace(checkpoint, rate=now.rate, taken=now.taken, skipped_in_a_row=0, scaled_in_a_row=0)


def _count(applied: bool, scaling: bool, state: GuardState) -> GuardState:
    if applied:
        return replace(state, skipped_in_a_row=0, scaled_in_a_row=0)
    if scaling and state.scaled_in_a_row < SCALING_STEPS:
        return replace(state, scaled_in_a_row=state.scaled_in_a_row + 1)
    return replace(state, skipped_in_a_row=state.skipped_in_a_row + 1)


def _act(step: int, verdict: Verdict, config: GuardConfig, state: GuardState) -> tuple[Decision, GuardState]:
    if config.action == "none":
        return GO_ON, state
    if config.action == "pause":
        return Decision("stop", _message(step, verdict, "The checkpoint of this step is kept.")), state
    if state.taken >= config.most:
        words = config.action.replace("_", " ")
        return Decision(
            "stop", _message(step, verdict, f"The guard took `{words}` {state.taken} times already.")
        ), state
    state = replace(state, rate=state.rate * config.rate_factor, taken=state.taken + 1)
    if config.action == "lower_rate":
        return Decision("lower_rate"), state
    return Decision("roll_back", not_after=state.vouched), state


def _message(step: int, verdict: Verdict, what: str) -> str:
    return f"The guard stopped training at step {step}: {verdict.name}. {verdict.sentence} {what} {verdict.advice}"


def _skipped(step: int, count: int) -> str:
    return (
        f"The guard stopped training at step {step}: {count} steps in a row were skipped because their loss or gradient"
        " is not finite. Lower train.optimizer.lr, use train.precision bf16 or fp32, or look for damaged images; then"
        " run again. train.guard.skipped_steps sets how many are borne."
    )
