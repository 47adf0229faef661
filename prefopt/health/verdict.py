"""A verdict in words from a window of steps. Pure: the same window gives the same verdict. Source: prefopt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from prefopt.health import words
from prefopt.health.figures import Figures, PairedEvaluation, summarise
from prefopt.health.signals import StepSignals

MIN_STEPS = 20
"""Applied steps before a judgement. Fewer, and medians of the gradient norm are noise."""
MIN_PAIRS = 256
"""Pairs before a judgement. With them the interval of an accuracy reaches 6 points to each side."""
FLAT_LOGIT = 0.1
"""Root mean square of the logit under which the loss stays within about 0.05 of ln 2: less than its own noise."""
USEFUL_LOGIT = 1.0
"""Root mean square of the logit at which losses differ visibly between pairs, and few are saturated."""
MOVED_GAP = 0.003
"""Gap over the reference's error from which a policy has moved: at published settings (beta 2000 to 5000, errors near
0.1) it gives logits of 0.3 to 0.75, three times FLAT_LOGIT or more."""
MOST_SATURATED = 0.5
"""Share of pairs without gradient from which on most of a batch is spent on nothing."""
COLLAPSED_DRIFT = 1.0
"""The winner's error at twice the reference's. Healthy runs stay within a tenth."""
EXPLODED_NORM = 30.0
"""Latest gradient norm over the earlier median. Healthy runs stay within a factor of 5."""
RECENT = 4
"""Risen errors are looked for in the last quarter of the window: the mean of the whole would hide a sudden rise."""


class VerdictName(StrEnum):
    """All verdicts."""

    WARMING_UP = "warming up"
    LEARNING = "learning"
    BETA_TOO_SMALL = "flat: beta too small for these errors"
    NOTHING_LEARNED = "flat: nothing learned"
    BUDGET_EXCEEDED = "loser only is rising: budget exceeded"
    SATURATED = "saturated"
    COLLAPSED = "collapsed"


ALARMS = frozenset({VerdictName.BUDGET_EXCEEDED, VerdictName.COLLAPSED})
"""Verdicts upon which a guard acts."""
UNHEALTHY = frozenset(VerdictName) - {VerdictName.WARMING_UP, VerdictName.LEARNING}
"""Verdicts that ask for something."""


@dataclass(frozen=True)
class Verdict:
    """A name, what was seen in a sentence or two with its figures, and what to do."""

    name: VerdictName
    sentence: str
    advice: str


@dataclass(frozen=True)
class Setting:
    """What a verdict must know of the config."""

    beta: float | None = None
    """Of the objective, in canonical units."""
    budget: float | None = 0.1
    """The winner's error may rise above the reference's by this share."""
    warmup_steps: int = 0
    """Of the learning rate."""
    window: int = 50
    """Steps of a full window."""


def judge(
    window: Sequence[StepSignals],
    setting: Setting,
    evaluations: Sequence[PairedEvaluation] = (),
    acted_upon: int = 0,
) -> tuple[Verdict, Figures]:
    """The verdict over some steps in order, and the figures it rests on. ValueError without steps.

    `evaluations` are all paired evaluations so far; a bad one up to step `acted_upon` is no news. The worst
    that holds is said: collapsed, budget exceeded, saturated, flat, learning; and warming up as long as a worse one
    cannot be told.
    """
    figures, latest = summarise(window), summarise(window[-max(1, len(window) // RECENT) :])
    verdict = (
        _collapse(window, figures, latest, evaluations, acted_upon)
        or _too_early(figures, setting)
        or _budget(latest, setting)
        or _saturation(figures)
        or _flatness(figures, setting, evaluations)
        or _learning(figures, setting, evaluations)
    )
    return verdict, figures


def above_chance(figures: Figures, evaluations: Sequence[PairedEvaluation]) -> bool:
    """Whether the accuracy's interval, or the latest paired evaluation's, lies above one half."""
    seen = [figures.accuracy, evaluations[-1].wins if evaluations else None]
    return any(share.low > 0.5 for share in seen if share)


def _collapse(
    window: Sequence[StepSignals],
    figures: Figures,
    latest: Figures,
    evaluations: Sequence[PairedEvaluation],
    acted_upon: int,
) -> Verdict | None:
    news = bool(evaluations) and evaluations[-1].step > acted_upon
    reasons = [
        words.broken(figures.broken) if figures.broken else "",
        words.far_above(latest) if (latest.winner_drift or 0.0) > COLLAPSED_DRIFT else "",
        words.exploded(explosion(window)) if explosion(window) > EXPLODED_NORM else "",
        words.no_images(evaluations[-1]) if news and evaluations[-1].broken else "",
        words.fell(evaluations) if news and fallen(evaluations) else "",
    ]
    said = " ".join(reason for reason in reasons if reason)
    return Verdict(VerdictName.COLLAPSED, said, words.COLLAPSED_ADVICE) if said else None


def explosion(window: Sequence[StepSignals]) -> float:
    """The median gradient norm of the last quarter over that of the steps before; 1 where too few are known."""
    cut = len(window) - max(1, len(window) // RECENT)
    before, after = ([s.grad_norm for s in part if s.grad_norm is not None] for part in (window[:cut], window[cut:]))
    if len(before) < MIN_STEPS // 2 or len(after) < 3 or not np.median(before) > 0.0:
        return 1.0
    return float(np.median(after) / np.median(before))


def fallen(evaluations: Sequence[PairedEvaluation]) -> bool:
    """Whether the policy loses to its start after it had won, both beyond chance."""
    return bool(evaluations) and evaluations[-1].wins.high < 0.5 and any(e.wins.low > 0.5 for e in evaluations)


def _too_early(figures: Figures, setting: Setting) -> Verdict | None:
    enough = figures.applied >= MIN_STEPS and figures.pairs >= MIN_PAIRS
    if figures.applied and (enough or _is_full(figures, setting)):
        return None
    needed = max(MIN_STEPS, math.ceil(MIN_PAIRS * figures.applied / figures.pairs) if figures.pairs else 0)
    return Verdict(VerdictName.WARMING_UP, *words.too_early(figures, min(needed, setting.window)))


def _is_full(figures: Figures, setting: Setting) -> bool:
    return figures.applied + figures.skipped >= setting.window


def _budget(latest: Figures, setting: Setting) -> Verdict | None:
    if setting.budget is None or (latest.winner_drift or 0.0) <= setting.budget:
        return None
    return Verdict(VerdictName.BUDGET_EXCEEDED, *words.budget(latest, setting.budget))


def _saturation(figures: Figures) -> Verdict | None:
    if (figures.saturated or 0.0) <= MOST_SATURATED:
        return None
    return Verdict(VerdictName.SATURATED, *words.saturated(figures))


def _flatness(figures: Figures, setting: Setting, evaluations: Sequence[PairedEvaluation]) -> Verdict | None:
    rms = figures.logit_rms
    if rms is None:
        return None
    moved = figures.gap is None or figures.gap >= MOVED_GAP
    if rms < FLAT_LOGIT and moved:
        growth = USEFUL_LOGIT / rms if rms > 0.0 else None
        return Verdict(VerdictName.BETA_TOO_SMALL, *words.beta_too_small(figures, setting.beta, growth))
    if above_chance(figures, evaluations):
        return None
    if figures.last <= setting.warmup_steps or not _is_full(figures, setting):
        until = max(setting.warmup_steps + 1, figures.first - 1 + setting.window)
        return Verdict(VerdictName.WARMING_UP, *words.undecided(figures, until))
    return Verdict(VerdictName.NOTHING_LEARNED, *words.nothing_learned(figures, moved=moved))


def _learning(figures: Figures, setting: Setting, evaluations: Sequence[PairedEvaluation]) -> Verdict:
    return Verdict(VerdictName.LEARNING, *words.learning(figures, evaluations, setting.budget))
