"""The data card as a page that stands alone: no script, nothing loaded, the same bytes for the same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from prefopt import __version__
from prefopt.card.annotators import Annotator
from prefopt.card.findings import findings
from prefopt.card.people import MEASURES
from prefopt.card.reasons import A, B
from prefopt.card.shares import LEVEL
from prefopt.card.survey import Listed, Survey
from prefopt.card.suspicious import CHANGED, UNANIMOUS
from prefopt.config.card import CardConfig
from prefopt.page.charts import interval_chart, spread_chart
from prefopt.page.environment import page_environment

PICTURE_BYTES = 24_000
"""Of one image on the page at most, as a file."""
ANNOTATORS_SHOWN, CATEGORIES_SHOWN, PROMPT_SHOWN, NAME_SHOWN = 25, 30, 300, 60
_BINS = 20
_TITLES = {
    "others": ("Agreement with the other annotators", "votes that name the winner of the others' majority"),
    "panel": ("Agreement with the panel", "votes that name the winner of the panel's majority"),
    "first": ("The image shown first wins", "votes for the image shown first"),
}
_CHOICES = {1: A, -1: B, 0: "tie"}


@dataclass(frozen=True)
class Picture:
    """An image of a listed pair, ready for the page."""

    uri: str
    small: bool
    """Few pixels: to be enlarged without smoothing."""


def render_card(found: Survey, config: CardConfig, pictures: Mapping[str, Picture], keys: Mapping[str, str]) -> str:
    """The page. `pictures` are of the shown pairs, by image id; `keys` of the stages that the figures come from."""
    people = found.people
    out = [one for one in people.listed if one.stands_out]
    return (
        page_environment(__package__)
        .get_template("data-card.html.j2")
        .render(
            version=__version__,
            found=found,
            card=found.counts,
            config=config,
            level=f"{100.0 * LEVEL:g}%",
            findings=findings(found),
            people=people,
            measures=[name for name in MEASURES if _is_known(found, name)],
            titles=_TITLES,
            out=out[:ANNOTATORS_SHOWN],
            busiest=sorted(people.listed, key=_by_votes)[:ANNOTATORS_SHOWN],
            spreads=_spreads(found),
            times=_times(found),
            u_chart=_u_chart(found),
            categories=found.categories[:CATEGORIES_SHOWN],
            shown=_shown(found.suspects[: config.pairs], pictures),
            weights={"unanimous": UNANIMOUS, "changed": CHANGED},
            keys={name: key[:12] for name, key in keys.items()},
            lengths={"prompt": PROMPT_SHOWN, "name": NAME_SHOWN},
        )
    )


def _is_known(found: Survey, measure: str) -> bool:
    if measure == "first" and not found.people.position_known:
        return False
    return found.people.everyone[measure].n > 0


def _by_votes(annotator: Annotator) -> tuple[int, str]:
    return -annotator.votes, annotator.name


@dataclass(frozen=True)
class _Chart:
    chart: Markup
    title: str


def _spreads(found: Survey) -> list[_Chart]:
    """How a share spreads over annotators."""
    charts = []
    for name in MEASURES:
        values = found.people.spread[name]
        if _is_known(found, name) and len(values) > 1:
            title, axis = _TITLES[name]
            counts, edges = np.histogram(values, _BINS, (0.0, 1.0))
            chart = spread_chart(f"spread-{name}", f"{title}, over annotators", counts, edges, axis, "annotators")
            charts.append(_Chart(chart, title))
    return charts


def _times(found: Survey) -> list[_Chart]:
    """How a share of everyone's votes went over time."""
    charts = []
    for name in MEASURES:
        by_time = found.people.everyone_by_time[name]
        rows = [
            (begin, part.value, part.low, part.high)
            for begin, part in zip(found.times, by_time, strict=True)
            if part.value is not None and part.low is not None and part.high is not None
        ]
        if _is_known(found, name) and len(rows) > 1:
            title, _ = _TITLES[name]
            level = 0.5 if name == "first" else found.people.everyone[name].value
            chart = interval_chart(f"time-{name}", f"{title}, over time", rows, "beginning of each stretch", level)
            charts.append(_Chart(chart, title))
    return charts


def _u_chart(found: Survey) -> Markup | None:
    if not found.has_panel:
        return None
    counts = found.u_histogram.reshape(_BINS, -1).sum(axis=1)
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    title, axis = "The minority metric u over all labels", "minority metric u"
    return spread_chart("u", title, counts, edges, axis, "labels", percent=False)


def _shown(listed: Sequence[Listed], pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    return [
        {
            "rank": rank,
            "found": one.suspect,
            "pair": one.suspect.pair,
            "reasons": one.reasons,
            "images": [
                (name, pictures[one.suspect.pair[f"image_{side}"]], one.suspect.wins[side])
                for side, name in enumerate((A, B))
            ],
            "votes": [
                {"who": vote.annotator or "anonymous", "choice": _CHOICES[vote.side], "vote": vote}
                for vote in one.suspect.judgements
            ],
            "more": one.suspect.votes - len(one.suspect.judgements),
        }
        for rank, one in enumerate(listed, start=1)
    ]
