"""Charts as SVG files of their own, for Markdown: legible on white and on dark pages, the same data, the same bytes.

Colours are classes with a style sheet in the file, which follows the reader's colour scheme and brings its own paper.
"""

import io
import re
from collections.abc import Callable

import matplotlib.style
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from prefopt.page.charts import INK, MUTED, PAPER, RULE, STYLE

SERIES = tuple(f"#0a000{place}" for place in range(8))
"""Colours of data, told apart by readers who do not see all colours too, together with markers."""
_SCHEMES: dict[str, tuple[str, str, str]] = {
    INK: ("ink", "#1f2937", "#e5e7eb"),
    MUTED: ("muted", "#5b6675", "#9aa5b1"),
    RULE: ("rule", "#e3e7ec", "#2f3842"),
    PAPER: ("paper", "#ffffff", "#14191f"),
    **{
        series: (f"s{place}", light, dark)
        for place, (series, (light, dark)) in enumerate(
            zip(
                SERIES,
                (
                    ("#1f5fae", "#6cb0f5"),
                    ("#c2410c", "#f6924f"),
                    ("#23804e", "#5dcb8d"),
                    ("#7b4bc4", "#bd9bf5"),
                    ("#a16207", "#e2b93b"),
                    ("#b02a6f", "#f48abb"),
                    ("#0e7c86", "#4fd0d6"),
                    ("#6b5a50", "#b9aaa0"),
                ),
                strict=True,
            )
        )
    },
}
"""By placeholder: the class, and its colour on light and on dark paper."""
_ROOM = 0.1
"""Around each panel, inches."""
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def picture(title: str, draw: Callable[[Figure], None], width: float, height: float) -> str:
    """The text of an SVG file of what `draw` draws, `width` and `height` in inches; `title` is its text alternative."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=_ROOM, h_pad=_ROOM))
        draw(figure)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _standalone(stream.getvalue(), title)


def _standalone(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'style="([^"]*)"', _classes, svg)
    end = svg.index(">")
    head = f'{svg[:end]} role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
    paper = f'<rect class="fill-{_SCHEMES[PAPER][0]}" width="100%" height="100%" rx="8"/>'
    return f"{head}<style>{_sheet()}</style>\n{paper}{svg[end + 1 :]}"


def _classes(found: re.Match[str]) -> str:
    """A style whose colours have become classes."""
    names = []

    def name(part: re.Match[str]) -> str:
        scheme = _SCHEMES.get(part[2])
        if scheme is None:
            return part[0]
        names.append(f"{part[1]}-{scheme[0]}")
        return ""

    style = re.sub(r"(?<![\w-])(fill|stroke): (#[0-9a-f]{6});?\s*", name, found[1]).strip()
    return " ".join(
        text for text in (f'class="{" ".join(names)}"' if names else "", f'style="{style}"' if style else "") if text
    )


def _sheet() -> str:
    light = "".join(_rules(name, colour) for name, colour, _ in _SCHEMES.values())
    dark = "".join(_rules(name, colour) for name, _, colour in _SCHEMES.values())
    return f"text{{font-family:{_FONT}}}{light}@media(prefers-color-scheme:dark){{{dark}}}"


def _rules(name: str, colour: str) -> str:
    return f".fill-{name}{{fill:{colour}}}.stroke-{name}{{stroke:{colour}}}"
