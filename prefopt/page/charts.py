"""Charts as inline SVG: text stays text, colours are CSS variables of the page, the same data give the same bytes."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

INK, MUTED, RULE, FIRST, SECOND, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", FIRST: "first", SECOND: "second", PAPER: "paper"}
STYLE: Any = {
    "svg.hashsalt": "prefopt",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
}
"""Of every chart, in colours that stand for parts and are given their values later."""
_WIDTH = 4.4
_LABEL_LETTERS = 60
"""Below an axis; more are slanted."""


def chart(name: str, title: str, draw: Callable[[Axes], None], height: float = 2.7) -> Markup:
    """What `draw` draws, as an element of a page; `name` is unique on the page, `title` is its text alternative."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return Markup(_inline(stream.getvalue(), name, title))


def interval_chart(
    name: str, title: str, rows: Sequence[tuple[str, float, float, float]], axis: str, level: float | None
) -> Markup:
    """Shares with their intervals side by side, as (label, value, low, high); `level` is a dashed reference line."""
    slanted = sum(len(label) for label, *_ in rows) > _LABEL_LETTERS

    def draw(axes: Axes) -> None:
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for place, (_, value, low, high) in enumerate(rows):
            axes.plot([place, place], [low, high], color=FIRST, linewidth=2.2, solid_capstyle="butt")
            axes.plot(place, value, marker="o", color=FIRST, markersize=6)
        axes.set_xticks(range(len(rows)), [label for label, *_ in rows])
        if slanted:
            axes.tick_params(axis="x", labelrotation=35)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xlabel(axis)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(False, axis="x")

    return chart(name, title, draw)


def spread_chart(
    name: str,
    title: str,
    counts: NDArray[np.integer],
    edges: NDArray[np.floating],
    axis: str,
    what: str,
    *,
    percent: bool = True,
) -> Markup:
    """How many of something lie in each bin of a figure, or of a share (`percent`)."""

    def draw(axes: Axes) -> None:
        axes.stairs(counts, edges, fill=True, color=FIRST, alpha=0.35)
        axes.stairs(counts, edges, color=FIRST, linewidth=1.2)
        axes.set(xlabel=axis, ylabel=what, xlim=(float(edges[0]), float(edges[-1])))
        if percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return chart(name, title, draw)


def legend(axes: Axes) -> None:
    """A legend above the plot, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2, handlelength=2.0, borderaxespad=0.2)


def _inline(svg: str, name: str, title: str) -> str:
    """An SVG file as an element of a page: no header, unique ids, colours and fonts from the page."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{slug}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{slug}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{slug}-\1"', svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    head = f'<svg class="chart" {box.group(0)} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    return head + svg[svg.index(">") + 1 :]
