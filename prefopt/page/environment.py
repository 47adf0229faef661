"""Templates of pages: a page's own, and the frame, style and parts that it shares with others."""

import base64
import hashlib

import jinja2

from prefopt.page import formats

_FILTERS = {
    "percent": formats.percent,
    "ends": formats.ends,
    "number_ends": formats.number_ends,
    "whole_ends": formats.whole_ends,
    "count": formats.count,
    "number": formats.number,
    "size": formats.size,
    "cell": formats.cell,
    "minus": formats.minus,
}


def page_environment(*packages: str) -> jinja2.Environment:
    """Templates of these packages, the first that has a name wins, and of this one. Text in HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (*packages, __package__)]),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {**_FILTERS, "digest": content_digest}
    return environment


def content_digest(script: str) -> str:
    """SHA-256 of a script in base64, as a Content-Security-Policy names the one script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
