"""The picture of ten days of retraining, from what `benchmarks/nights.py` has told.

python benchmarks/nights_picture.py runs/ten-days/told.json docs/results/nights.svg
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLOURS = {"promote": "#1a7f4b", "propose": "#b7791f", "reject": "#c0392b", "hold": "#c0392b"}
MARKERS = {"promote": "o", "propose": "D", "reject": "X", "hold": "s"}
LINE, OTHER = "#2b4c7e", "#9aa5b1"


def champions(told: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The win rate over the base of the champion after each day."""
    rates: list[dict[str, float]] = []
    for day in told:
        rates.append(day["win_rate"] if day["action"] == "promote" else rates[-1])
    return rates


def draw_rates(axes: Axes, told: Sequence[dict[str, Any]], full: Sequence[dict[str, Any]] | None) -> None:
    """Each night's challenger with its interval, and the champion that results."""
    days = [day["day"] for day in told]
    if full:
        axes.step(days, [rate["value"] for rate in champions(full)], where="post", color=OTHER, linestyle="--")
    axes.step(days, [rate["value"] for rate in champions(told)], where="post", color=LINE, linewidth=2)
    for day in told:
        found = day["win_rate"]
        if found:
            colour = COLOURS[day["action"]]
            axes.plot([day["day"]] * 2, [found["low"], found["high"]], color=colour, linewidth=1.4)
            axes.plot(day["day"], found["value"], MARKERS[day["action"]], color=colour, markersize=7)
    axes.set_ylabel("win rate over the base, true preference")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles = [Line2D([], [], color=LINE, linewidth=2, label="champion")]
    if full:
        handles.append(Line2D([], [], color=OTHER, linestyle="--", label="champion, trained anew every night"))
    seen = dict.fromkeys(day["action"] for day in told if day["win_rate"])
    names = {"promote": "promoted", "propose": "proposed", "reject": "rejected", "hold": "held"}
    handles += [
        Line2D(
            [], [], color=COLOURS[action], marker=MARKERS[action], linestyle="", label=f"challenger, {names[action]}"
        )
        for action in seen
    ]
    axes.legend(handles=handles, loc="lower right", frameon=False, fontsize=8)


def draw_work(axes: Axes, told: Sequence[dict[str, Any]], full: Sequence[dict[str, Any]] | None) -> None:
    """Training visits of each night, with the day's events as labels."""
    days = [day["day"] for day in told]
    if full:
        axes.bar([day + 0.2 for day in days], [day["visits"] for day in full], width=0.36, color=OTHER)
    axes.bar([day - (0.2 if full else 0) for day in days], [day["visits"] for day in told], width=0.36, color=LINE)
    axes.set_ylabel("visits trained")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xticks(days, [f"{day['day']}  {day['event']}" for day in told], rotation=30, ha="right", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("told")
    parser.add_argument("picture")
    given = parser.parse_args()
    told = json.loads(Path(given.told).read_text())
    with matplotlib.rc_context({"svg.hashsalt": "prefopt", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8.4, 6.0), layout="constrained")
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        draw_rates(above, told["incremental"], told.get("full"))
        draw_work(below, told["incremental"], told.get("full"))
        figure.savefig(given.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
