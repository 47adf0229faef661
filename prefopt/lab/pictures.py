"""Pictures of what the analyses found, as texts of SVG files."""

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.analysis.ablation import Ablation
from prefopt.lab.analysis.cost import Length
from prefopt.lab.analysis.detection import Detection, Doubted
from prefopt.lab.analysis.gain import GainLine
from prefopt.lab.outcome import BINS
from prefopt.page.charts import INK, MUTED
from prefopt.page.formats import minus
from prefopt.page.standalone import SERIES, picture

_MARKERS = "oDs^vPX"
"""Fewer than colours, so that a colour that comes again has another marker."""
_DASHES: tuple[tuple[float, ...], ...] = ((), (4.0, 2.0), (1.2, 1.6))
_MOST_COLUMNS = 4
_U_TICKS = (0.0, 0.5, 1.0)
_PANEL = 4.1
"""Width of a panel, inches."""


class Line(NamedTuple):
    """A series with intervals."""

    name: str
    x: list[float]
    y: list[Estimate]


def gain_picture(lines: Sequence[GainLine], measure: str, main: Container[str]) -> str:
    """Gains at each flip rate, and the shares kept of the clean gain, one line a method; those of `main` stand out."""
    gains = [_line(line, [found.gain for found in line.gains]) for line in lines]
    kept = [_line(line, [found.kept if found.noise.rate else None for found in line.gains]) for line in lines]
    shown = [line for line in kept if line.x]
    rates = [found.noise.title for found in lines[0].gains]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2 if shown else 1, squeeze=False)[0]
        _lines(panels[0], gains, main=main)
        panels[0].axhline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        panels[0].set(ylabel=f"{measure}, over the base")
        _at_rates(panels[0], rates, gains)
        if shown:
            order = [line.name for line in gains]
            _lines(panels[1], shown, order, main)
            panels[1].axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            panels[1].set(ylabel="kept of the clean gain")
            _at_rates(panels[1], rates, shown)
            panels[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _signed(panels[0])
        _legend(figure, panels[0])

    return picture(f"Gain in {measure} by share of flipped labels", draw, 2 * _PANEL, 3.9)


def spread_picture(found: Sequence[Detection]) -> str:
    """u of one source and method, two panels for each noise: labels by u, below them the share of doubtful ones."""
    bands = -(-len(found) // _MOST_COLUMNS)
    columns = -(-len(found) // bands)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2 * bands, columns, sharey="row", squeeze=False)
        places = [(above, below) for band in range(bands) for above, below in panels[2 * band : 2 * band + 2].T]
        for above, below in places[len(found) :]:
            above.set_visible(False)
            below.set_visible(False)
        for (above, below), one in zip(places, found, strict=False):
            _histogram(above, one)
            for doubted, place, name in ((one.flipped, 1, "flipped"), (one.minority, 3, "minority")):
                if doubted:
                    _shares(below, doubted, place, name)
            above.set_title(one.noise.title, fontsize=9.5, color=INK)
            above.set(xlim=(0.0, 1.0), xticks=_U_TICKS, xticklabels=[])
            below.set(xlabel="u", xlim=(0.0, 1.0), ylim=(0.0, 1.02), xticks=_U_TICKS)
            below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for above, below in panels[:, 0].reshape(bands, 2):
            above.set_ylabel("labels, root scale")
            below.set_ylabel("share of a bin's labels")
        _legend(figure, *panels.flat)

    return picture("Distribution of u, and share of doubtful labels by u", draw, max(4.4, 2.15 * columns), 4.4 * bands)


def ablation_picture(found: Sequence[Ablation]) -> str:
    """Figures of each step with intervals, a panel for each measure."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for panel, one in zip(panels, found, strict=True):
            names = [step.method for step in one.steps]
            shown = [(place, step.figure) for place, step in enumerate(one.steps) if step.figure]
            _lines(panel, [Line(one.measure.name, [float(place) for place, _ in shown], [e for _, e in shown])])
            panel.set_xticks(range(len(names)), names, rotation=25, ha="right", rotation_mode="anchor", color=INK)
            panel.set(ylabel=one.measure.name, xlim=(-0.4, len(names) - 0.6))
            panel.set_title(one.noise.title, fontsize=9.5, color=INK)
            panel.grid(False, axis="x")

    return picture("What each part adds", draw, _PANEL * len(found), 3.4)


def cost_picture(panels_of: Sequence[tuple[str, Sequence[Length]]]) -> str:
    """Quality against UNet forwards, a line for each family, a panel for each measure; the first one's end dashed."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(panels_of), squeeze=False)[0]
        for panel, (measure, found) in zip(panels, panels_of, strict=True):
            families = list(dict.fromkeys(one.family for one in found))
            own = [[one for one in found if one.family == family] for family in families]
            _lines(
                panel, [Line(o[0].family, [one.forwards.value for one in o], [one.quality for one in o]) for o in own]
            )
            panel.axhline(own[0][-1].quality.value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            panel.set(xlabel="UNet forwards", ylabel=measure)
            panel.set_xlim(left=0.0)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=5))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _legend(figure, panels[0])

    return picture("Quality against UNet forwards", draw, _PANEL * len(panels_of), 3.6)


def _line(line: GainLine, points: Iterable[Estimate | None]) -> Line:
    known = [(float(x), y) for x, y in enumerate(points) if y is not None]
    return Line(line.method, [x for x, _ in known], [y for _, y in known])


def _at_rates(axes: Axes, rates: Sequence[str], lines: Sequence[Line]) -> None:
    """Titles of the rates that some line has, equally far apart."""
    places = sorted({int(x) for line in lines for x in line.x})
    axes.set_xticks(places, [rates[place] for place in places], color=INK)
    axes.set_xlim(places[0] - 0.4, places[-1] + 0.4)
    axes.grid(False, axis="x")


def _lines(
    axes: Axes, lines: Sequence[Line], order: Sequence[str] | None = None, main: Container[str] | None = None
) -> None:
    """Lines with intervals, a little apart from each other, so that no interval hides another. Lines that are not of
    `main`, if that is given, are thin."""
    names = list(order or [line.name for line in lines])
    every = sorted({x for line in lines for x in line.x})
    step = min((b - a for a, b in pairwise(every)), default=1.0)
    apart = 0.4 * step / max(1, len(names)) if len(names) > 1 else 0.0
    for line in lines:
        place = names.index(line.name)
        bold = main is None or line.name in main
        colour = SERIES[place % len(SERIES)]
        x = [at + (place - (len(names) - 1) / 2.0) * apart for at in line.x]
        _intervals(axes, list(zip(x, line.y, strict=True)), colour, 1.3 if bold else 0.8)
        axes.plot(
            x,
            [found.value for found in line.y],
            color=colour,
            linewidth=2.0 if bold else 0.9,
            dashes=_DASHES[place // len(SERIES) % len(_DASHES)],
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=5.5 if bold else 4.0,
            markeredgewidth=0.0,
            label=line.name,
        )


def _intervals(axes: Axes, found: Iterable[tuple[float, Estimate]], colour: str, width: float = 1.3) -> None:
    known = [(x, one.low, one.high) for x, one in found if one.low is not None and one.high is not None]
    if known:
        at, low, high = zip(*known, strict=True)
        axes.vlines(at, low, high, colors=colour, linewidth=width)


def _histogram(axes: Axes, one: Detection) -> None:
    """Heights are roots, so that bins with few labels are seen beside those with many."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    axes.stairs(one.labels, edges, fill=True, color=MUTED, alpha=0.35, label="all labels")
    for doubted, place, name in ((one.minority, 3, "minority"), (one.flipped, 1, "flipped")):
        if doubted:
            axes.stairs(doubted.labels, edges, color=SERIES[place], linewidth=1.5, label=name)
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _shares(axes: Axes, doubted: Doubted, place: int, name: str) -> None:
    middles = (np.arange(BINS) + 0.42 + 0.08 * (place - 1)) / BINS
    known = [(float(u), share) for u, share in zip(middles, doubted.shares, strict=True) if share]
    _intervals(axes, known, SERIES[place])
    axes.plot(
        [u for u, _ in known],
        [share.value for _, share in known],
        color=SERIES[place],
        linewidth=1.2,
        marker=_MARKERS[place],
        markersize=3.8,
        markeredgewidth=0.0,
        label=name,
    )


def _signed(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:+.3g}") if value else "0"))


def _legend(figure: Figure, *panels: Axes) -> None:
    """One for all panels, above them."""
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=4, handlelength=2.2, columnspacing=1.4
    )
