"""Health of a run, step by step: signals in, figures, verdicts and the guard's decisions out."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefopt.config.train import TrainConfig
from prefopt.health.figures import Figures, PairedEvaluation, Share, step_figures
from prefopt.health.guard import Decision, GuardState, after_roll_back, decide
from prefopt.health.signals import StepSignals, step_signals
from prefopt.health.verdict import Setting, Verdict, judge

VERDICTS_PER_WINDOW = 5
"""The window slides: a verdict every fifth of it, each over the whole."""


@dataclass(frozen=True)
class Observation:
    """What a step brought."""

    figures: dict[str, Any]
    """For the step's line of steps.jsonl."""
    verdict: Verdict | None
    """None between verdicts."""
    changed: bool
    """Whether the verdict is another than the last one."""
    line: dict[str, Any] | None
    """For health.jsonl, where there is a verdict."""
    decision: Decision


class HealthMonitor:
    """Judges a run. Every worker holds one, gives it the same global figures, and so comes to the same decisions."""

    def __init__(self, train: TrainConfig, num_timesteps: int = 1000) -> None:
        self._train, self._num_timesteps = train, num_timesteps
        self._setting = Setting(
            beta=getattr(train.objective, "beta", None),
            budget=train.guard.budget,
            warmup_steps=train.optimizer.warmup_steps,
            window=train.health.window,
        )
        self._window: deque[StepSignals] = deque(maxlen=train.health.window)
        self._evaluations: list[PairedEvaluation] = []
        self._guard = GuardState()
        self._last: str | None = None

    @property
    def rate(self) -> float:
        """The learning rate of the next step is multiplied by it."""
        return self._guard.rate

    def observe(self, step: int, *, applied: bool, grad_norm: float, values: Mapping[str, np.ndarray]) -> Observation:
        """Take in a step, counted from 1. `values` are the figures [B] of its global batch, as `step_signals` reads."""
        health = self._train.health
        signals = step_signals(
            step,
            values,
            applied=applied,
            grad_norm=grad_norm,
            buckets=health.timestep_buckets,
            num_timesteps=self._num_timesteps,
        )
        self._window.append(signals)
        verdict, figures = self._judge(step)
        decision, self._guard = decide(
            step,
            applied=applied,
            scaling=self._is_scaling(values),
            verdict=verdict,
            config=self._train.guard,
            state=self._guard,
            evaluated=self._evaluations[-1].step if self._evaluations else 0,
        )
        line = self._line(verdict, figures, decision) if verdict and figures else None
        if decision.action != "go on":
            self._window.clear()
        changed = verdict is not None and verdict.name != self._last
        self._last = str(verdict.name) if verdict else self._last
        return Observation(step_figures(signals), verdict, changed, line, decision)

    @property
    def vouched(self) -> int | None:
        """The last step whose weights a good verdict has judged, where the guard may roll back to it."""
        return self._guard.vouched if self._train.guard.action == "roll_back" else None

    @property
    def verdict(self) -> str | None:
        """The name of the last verdict; None before the first."""
        return self._last

    def evaluated(self, step: int, wins: Share, broken: int = 0) -> None:
        """Take in a paired evaluation after a step: how often the policy's images win, and how many are none."""
        self._evaluations.append(PairedEvaluation(step, wins, broken))

    def state_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON exactly, for a checkpoint."""
        return {
            "window": [signals.as_json() for signals in self._window],
            "evaluations": [{"step": e.step, "wins": vars(e.wins), "broken": e.broken} for e in self._evaluations],
            "guard": self._guard.as_json(),
            "verdict": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. An empty state is that of a new run."""
        window = [StepSignals.from_json(values) for values in state.get("window", [])]
        self._window = deque(window, maxlen=self._train.health.window)
        self._evaluations = [
            PairedEvaluation(found["step"], Share(**found["wins"]), found.get("broken", 0))
            for found in state.get("evaluations", [])
        ]
        self._guard = GuardState.from_json(state.get("guard", {}))
        self._last = state.get("verdict")

    def roll_back(self, state: Mapping[str, Any]) -> None:
        """Go back to a checkpoint's state, but keep the lowered rate and the count of actions."""
        now = self._guard
        self.load_state_dict(state)
        self._guard = after_roll_back(self._guard, now)

    def _is_scaling(self, values: Mapping[str, np.ndarray]) -> bool:
        """Whether a step, if it was skipped, only lowers fp16's loss scale: the losses themselves are numbers."""
        return self._train.precision == "fp16" and bool(np.isfinite(values["loss"]).all())

    def _judge(self, step: int) -> tuple[Verdict | None, Figures | None]:
        every = max(1, self._train.health.window // VERDICTS_PER_WINDOW)
        if step % every and step != self._train.steps:
            return None, None
        return judge(list(self._window), self._setting, self._evaluations, self._guard.evaluated)

    def _line(self, verdict: Verdict, figures: Figures, decision: Decision) -> dict[str, Any]:
        latest = self._evaluations[-1] if self._evaluations else None
        return {
            "step": figures.last,
            "verdict": str(verdict.name),
            "sentence": verdict.sentence,
            "advice": verdict.advice,
            **figures.as_json(),
            "evaluation": latest and {"step": latest.step, **vars(latest.wins), "broken": latest.broken},
            "action": decision.action,
            "rate": self._guard.rate,
        }
