"""The report's section on training: how the verdict went, and curves of what steps and verdicts recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from prefopt.evaluation.charts import Tone, curve_chart, timeline_chart
from prefopt.evaluation.statistics import Floats
from prefopt.page.charts import interval_chart

Lines = Sequence[Mapping[str, Any]]

_TONES: dict[str, Tone] = {"learning": "well", "warming up": "early"}
"""Of verdicts that ask for nothing."""


@dataclass(frozen=True)
class Panel:
    """A chart with its caption."""

    chart: Markup
    title: str
    caption: str


@dataclass(frozen=True)
class Span:
    """A stretch of steps with one verdict."""

    first: int
    last: int
    verdict: str
    sentence: str
    """Of its last line."""
    advice: str
    actions: tuple[str, ...]
    """What the guard did, in order."""


@dataclass(frozen=True)
class Course:
    """How the verdict went."""

    spans: list[Span]
    chart: Markup | None
    """None for a single span."""
    window: int
    """Steps that a verdict looks back on at most."""
    skipped: int
    steps: int

    @property
    def end(self) -> Span | None:
        """The last stretch; None if no verdict was recorded."""
        return self.spans[-1] if self.spans else None

    @property
    def alarm(self) -> Span | None:
        """The last stretch, if its verdict asks for something."""
        return self.end if self.end and self.end.verdict not in _TONES else None


def course(steps: Lines, verdicts: Lines) -> Course:
    """The course of a run from the lines of steps.jsonl and health.jsonl."""
    spans = verdict_spans(verdicts)
    chart = None
    if len(spans) > 1:
        bands = [(span.first, span.last, span.verdict, _TONES.get(span.verdict, "alarm")) for span in spans]
        chart = timeline_chart("verdict", "The verdict over the steps of training", bands)
    window = max((line["last"] - line["first"] + 1 for line in verdicts), default=0)
    return Course(spans, chart, window, sum(bool(step.get("skipped")) for step in steps), len(steps))


def verdict_spans(verdicts: Lines) -> list[Span]:
    """Consecutive equal verdicts as one. A verdict stands for the steps since the one before.

    After a roll-back steps are counted again: from the last verdict before the one that led back.
    """
    spans: list[Span] = []
    for line in verdicts:
        action = () if line["action"] == "go on" else (line["action"].replace("_", " "),)
        before = spans[-1] if spans else None
        first = before.last + 1 if before else 1
        if before and line["step"] <= before.last:
            first = spans[-2].last + 1 if len(spans) > 1 else 1
        elif before and before.verdict == line["verdict"]:
            spans.pop()
            first, action = before.first, before.actions + action
        spans.append(Span(first, line["step"], line["verdict"], line["sentence"], line["advice"], action))
    return spans


def training_panels(steps: Lines, verdicts: Lines = (), budget: float | None = None) -> list[Panel]:
    """Curves of whatever was recorded; a curve without a single number is left out. `budget` is the guard's."""
    return _curves(steps, _STEP_PANELS, {"budget": budget}) + _buckets(verdicts)


@dataclass(frozen=True)
class _Curves:
    name: str
    title: str
    caption: str
    fields: tuple[tuple[str, str], ...]
    """Label and key of each curve."""
    level: float | str | None = None
    """A dashed line: a number, or the name of one."""
    percent: bool = False


_STEP_PANELS = (
    _Curves("loss", "Loss", "Mean over the pairs of a batch.", (("loss", "loss"),)),
    _Curves(
        "accuracy",
        "Implicit accuracy on the batch",
        "Share of training pairs whose labelled winner the model prefers more than its reference does; dashed: chance.",
        (("accuracy", "accuracy"),),
        0.5,
        percent=True,
    ),
    _Curves(
        "errors",
        "Denoising error",
        "Mean squared error of the model on winners and on losers.",
        (("winner", "error_w"), ("loser", "error_l")),
    ),
    _Curves(
        "drift",
        "Drift from the reference",
        "How much larger the model's error is than its reference's. Above zero, images of that side became less"
        " likely; the objective sees only the gap between the two. Dashed: the budget of the winner.",
        (("winner", "winner_drift"), ("loser", "loser_drift")),
        "budget",
        percent=True,
    ),
    _Curves(
        "settled",
        "Settled pairs",
        "Share of pairs with less than 5% of their first gradient, and of pairs as far on the wrong side.",
        (("settled", "saturated"), ("opposed", "opposed")),
        percent=True,
    ),
    _Curves(
        "distance",
        "Distance from the reference",
        "Mean squared difference of the two models' predictions.",
        (("distance", "distance"),),
    ),
    _Curves(
        "staleness",
        "Staleness of stored inversions",
        "How far the target noise would move if the policy inverted the coming visits now, in standard deviations of"
        " the noise: what the reference inverted suits the policy less and less.",
        (("staleness", "staleness"),),
    ),
    _Curves(
        "paired",
        "Paired evaluation",
        "Win rate of images drawn while training over those from before it, same prompts and noise; dashed: chance.",
        (("win rate", "paired_wins"),),
        0.5,
        percent=True,
    ),
    _Curves("grad-norm", "Gradient norm", "Global norm before clipping.", (("norm", "grad_norm"),)),
    _Curves("u-mean", "Minority metric u", "Mean of the u that the objective used.", (("u", "u_mean"),)),
)


def _curves(lines: Lines, wanted: Sequence[_Curves], levels: Mapping[str, float | None]) -> list[Panel]:
    if not lines:
        return []
    at = np.asarray([line["step"] for line in lines], dtype=np.float64)
    panels = []
    for found in wanted:
        curves = [(label, _column(lines, field)) for label, field in found.fields]
        curves = [(label, values) for label, values in curves if np.isfinite(values).any()]
        if curves:
            level = levels[found.level] if isinstance(found.level, str) else found.level
            known = np.any([np.isfinite(values) for _, values in curves], axis=0)
            drawn = [(label, values[known]) for label, values in curves]
            chart = curve_chart(found.name, found.title, at[known], drawn, level, percent=found.percent)
            panels.append(Panel(chart, found.title, found.caption))
    return panels


def _buckets(verdicts: Lines) -> list[Panel]:
    """Accuracy by timestep in the last window."""
    shares = list(verdicts[-1].get("accuracy_by_timestep") or []) if verdicts else []
    rows = [
        (f"{100 * index / len(shares):.0f} to {100 * (index + 1) / len(shares):.0f}%", share)
        for index, share in enumerate(shares)
    ]
    known = [(label, share["value"], share["low"], share["high"]) for label, share in rows if share]
    if not known:
        return []
    title = "Implicit accuracy by timestep"
    first, last = verdicts[-1]["first"], verdicts[-1]["last"]
    caption = (
        f"Over steps {first:,} to {last:,}, by parts of the noise schedule from least to most noise, with 95%"
        " intervals. At random timesteps progress is diluted: it often shows in one part first. Dashed: chance."
    )
    return [Panel(interval_chart("accuracy-timestep", title, known, "timestep", 0.5), title, caption)]


def _column(lines: Lines, field: str) -> Floats:
    cells = [line.get(field) for line in lines]
    return np.asarray([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
