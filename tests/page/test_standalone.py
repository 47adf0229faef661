"""Charts as files of their own."""

import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from prefopt.page.charts import INK, MUTED, PAPER, RULE
from prefopt.page.standalone import SERIES, picture


def draw(figure: Figure) -> None:
    axes = figure.add_subplot()
    for place, colour in enumerate(SERIES):
        axes.plot([0, 1], [place, place + 1], color=colour, marker="o", label=f"<{place}>")
    axes.text(0.5, 0.5, "a & b", color=INK)
    axes.set_xlabel("x")


def test_it_is_valid_and_says_what_it_shows() -> None:
    root = ElementTree.fromstring(picture("Gains & <losses>", draw, 4.0, 3.0))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Gains & <losses>"
    assert root.get("width")
    assert root.get("height")


def test_every_colour_is_a_class_that_both_schemes_define() -> None:
    text = picture("t", draw, 4.0, 3.0)
    for placeholder in (INK, MUTED, RULE, PAPER, *SERIES):
        assert placeholder not in text
    used = {name for names in re.findall(r'class="([^"]+)"', text) for name in names.split()}
    assert {"stroke-s0", "fill-s7", "fill-ink", "stroke-rule", "fill-paper"} <= used
    light, dark = re.findall(r"<style>text(.*?)@media\(prefers-color-scheme:dark\)(.*?)</style>", text)[0]
    for name in used:
        assert f".{name}{{" in light
        assert f".{name}{{" in dark


def test_it_brings_its_own_paper_beneath_everything() -> None:
    text = picture("t", draw, 4.0, 3.0)
    assert text.index('<rect class="fill-paper" width="100%" height="100%"') < text.index("<g")


def test_the_same_drawing_gives_the_same_bytes() -> None:
    assert picture("t", draw, 4.0, 3.0) == picture("t", draw, 4.0, 3.0)
