"""Charts of an evaluation report: detection of flipped labels, win rates, and the course of training."""

import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from prefopt.evaluation.minority import Detection
from prefopt.evaluation.pareto import Point, frontier
from prefopt.evaluation.results import Comparison
from prefopt.evaluation.statistics import Estimate, Floats
from prefopt.page.charts import FIRST, INK, MUTED, SECOND, chart, legend
from prefopt.scoring.reliability import Reliability

Tone = Literal["well", "early", "alarm"]
_COLOURS: dict[Tone, str] = {"well": FIRST, "early": MUTED, "alarm": SECOND}
_MOST_POINTS = 400
_FEW_POINTS = 12


def pareto_chart(points: Sequence[Point], name: str = "pareto") -> Markup:
    """Win rate against distance from the base, with intervals; the frontier is a line from the base itself."""
    best = frontier(points)

    def draw(axes: Axes) -> None:
        axes.axhline(0.5, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.step(
            [0.0, *(point.distance.value for point in best)],
            [0.5, *(point.wins.value for point in best)],
            where="post",
            color=MUTED,
            linewidth=1.0,
        )
        axes.plot(0.0, 0.5, marker="s", color=INK, markersize=5)
        axes.annotate("base", (0.0, 0.5), (5, -11), textcoords="offset points", color=INK)
        for point in points:
            colour = FIRST if point in best else SECOND
            for across, low, high in ((True, point.distance.low, point.distance.high), (False, *_ends(point.wins))):
                if low is not None and high is not None:
                    at = [point.wins.value] * 2 if across else [point.distance.value] * 2
                    axes.plot(*(([low, high], at) if across else (at, [low, high])), color=colour, linewidth=1.4)
            axes.plot(point.distance.value, point.wins.value, marker="o", color=colour, markersize=6)
            place = (point.distance.value, point.wins.value)
            axes.annotate(point.name, place, (5, 5), textcoords="offset points", color=INK)
        axes.set(xlabel="distance from the base", ylabel="win rate")
        axes.margins(x=0.12, y=0.15)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    return chart(name, "Win rate against distance from the base", draw, height=3.2)


def _ends(estimate: Estimate) -> tuple[float | None, float | None]:
    return estimate.low, estimate.high


def histogram_chart(detection: Detection) -> Markup:
    """How u spreads over clean and flipped labels, each as shares of its own kind."""

    def draw(axes: Axes) -> None:
        edges = detection.edges
        clean = detection.clean / max(detection.clean.sum(), 1.0)
        label = "clean" if detection.flipped is not None else "all labels"
        axes.stairs(clean, edges, fill=True, color=FIRST, alpha=0.35, label=f"{label} ({detection.clean.sum():,.0f})")
        axes.stairs(clean, edges, color=FIRST, linewidth=1.2)
        if detection.flipped is not None:
            flipped = detection.flipped / max(detection.flipped.sum(), 1.0)
            axes.stairs(flipped, edges, color=SECOND, linewidth=1.8, label=f"flipped ({detection.flipped.sum():,.0f})")
        axes.set(xlabel="minority metric u", ylabel="share of labels", xlim=(0.0, 1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend(axes)

    return chart(f"u-{detection.source}", f"Histogram of the {detection.source} minority metric u", draw)


def roc_chart(detection: Detection) -> Markup:
    """True against false positive rate of u as a detector of flipped labels."""
    assert detection.roc is not None
    assert detection.auroc is not None
    fpr, tpr, _ = detection.roc
    value = detection.auroc.value

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.plot(fpr, tpr, color=SECOND, linewidth=1.8)
        axes.fill_between(fpr, tpr, color=SECOND, alpha=0.12, linewidth=0)
        axes.text(0.97, 0.06, f"AUROC {value:.3f}", ha="right", color=INK)
        axes.text(0.30, 0.24, "chance", color=MUTED, rotation=27, rotation_mode="anchor")
        axes.set(xlabel="clean labels flagged", ylabel="flipped labels found", xlim=(0, 1), ylim=(0, 1.01))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    return chart(f"roc-{detection.source}", f"ROC curve of the {detection.source} minority metric", draw)


def reliability_chart(reliability: Reliability) -> Markup | None:
    """Shares of votes against alpha, with Wilson intervals; None if nothing was measured."""
    if reliability.before is None:
        return None
    shown = [("uncalibrated", MUTED, "o", reliability.before), ("calibrated", FIRST, "D", reliability.after)]

    def draw(axes: Axes) -> None:
        axes.plot([0.5, 1.0], [0.5, 1.0], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        lowest = 0.5
        for label, colour, marker, figures in shown:
            if figures is None:
                continue
            x, y = ([getattr(found, name) for found in figures.bins] for name in ("alpha", "share"))
            low, high = ([getattr(found, name) for found in figures.bins] for name in ("low", "high"))
            axes.vlines(x, low, high, color=colour, linewidth=1.2)
            axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=0.8, label=label)
            lowest = min(lowest, *low)
        axes.set(xlabel="alpha of the preferred image", ylabel="share of votes for it")
        axes.set(xlim=(0.49, 1.01), ylim=(max(0.0, lowest - 0.03), 1.02))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if reliability.after:
            legend(axes)

    return chart("reliability", "Reliability diagram of the soft preference alpha", draw)


def forest_chart(comparisons: Sequence[Comparison], name: str) -> Markup:
    """Win rates of a model with their intervals, one row per reward, the headline on top."""

    def draw(axes: Axes) -> None:
        axes.axvline(0.5, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for row, found in enumerate(comparisons):
            colour = FIRST if row == 0 else MUTED
            wins = found.wins
            if wins.low is not None and wins.high is not None:
                axes.plot([wins.low, wins.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot(wins.value, row, marker="D" if row == 0 else "o", color=colour, markersize=6.5)
        ends = [
            end
            for found in comparisons
            for end in (found.wins.low, found.wins.high, found.wins.value)
            if end is not None
        ]
        reach = max(0.12, 0.03 + max(abs(end - 0.5) for end in [*ends, 0.5]))
        axes.set_xlim(max(0.0, 0.5 - reach), min(1.0, 0.5 + reach))
        axes.set_ylim(len(comparisons) - 0.4, -0.6)
        axes.set_yticks(range(len(comparisons)), [found.reward for found in comparisons])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel(f"win rate of {name} (dashed: no difference)")
        axes.spines["left"].set_visible(False)
        axes.grid(False, axis="y")

    return chart("forest", f"Win rates of {name} by reward", draw, height=0.75 + 0.34 * len(comparisons))


def curve_chart(
    name: str,
    title: str,
    steps: Floats,
    curves: Sequence[tuple[str, Floats]],
    level: float | None = None,
    *,
    percent: bool = False,
) -> Markup:
    """One panel of training curves: each value faint, a running mean strong; `level` is a dashed reference line."""

    def draw(axes: Axes) -> None:
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for (label, values), colour, dashes in zip(curves, (FIRST, SECOND), ((), (5, 1.5)), strict=False):
            at, thinned = thin(steps, values)
            axes.plot(at, thinned, color=colour, linewidth=0.8, alpha=0.35)
            at, smooth = thin(steps, running_mean(values))
            marker = "o" if len(at) <= _FEW_POINTS else ""
            axes.plot(at, smooth, color=colour, linewidth=1.8, dashes=dashes, label=label, marker=marker, markersize=4)
        axes.set(xlabel="optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
            axes.yaxis.get_offset_text().set_color(MUTED)
        if len(curves) > 1:
            legend(axes)

    return chart(name, title, draw)


def timeline_chart(name: str, title: str, bands: Sequence[tuple[int, int, str, Tone]]) -> Markup:
    """Stretches of steps as (first, last, label, tone), a row for each label, in order of appearance."""
    labels = list(dict.fromkeys(label for _, _, label, _ in bands))

    def draw(axes: Axes) -> None:
        for first, last, label, tone in bands:
            place = labels.index(label)
            axes.barh(place, last - first + 1, left=first - 1, height=0.5, color=_COLOURS[tone], linewidth=0)
        axes.set_yticks(range(len(labels)), [textwrap.fill(label, 22) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        for text in axes.get_yticklabels():
            text.set_color(INK)
        axes.set_xlim(0, max(last for _, last, _, _ in bands))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel("optimizer step")
        axes.spines["left"].set_visible(False)
        axes.grid(False, axis="y")

    return chart(name, title, draw, height=0.75 + 0.36 * len(labels))


def running_mean(values: Floats) -> Floats:
    """The mean over a centred window of about a twelfth of the curve, shorter at its ends; NaN is left out."""
    half = max(1, len(values) // 24)
    known = np.isfinite(values)
    sums = np.cumsum(np.r_[0.0, np.where(known, values, 0.0)])
    counts = np.cumsum(np.r_[0, known])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[last] - counts[first]
    means = (sums[last] - sums[first]) / np.maximum(count, 1)
    return np.where(count > 0, means, np.nan)


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """A long curve by the means of equal blocks, so that a page stays small."""
    if len(x) <= _MOST_POINTS:
        return x, y
    parts = zip(np.array_split(x, _MOST_POINTS), np.array_split(y, _MOST_POINTS), strict=True)
    means = np.array([(part.mean(), values.mean()) for part, values in parts])
    return means[:, 0], means[:, 1]
