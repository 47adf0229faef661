import numpy as np
import pytest

from prefopt.page.charts import interval_chart, spread_chart


def test_charts_take_colours_and_fonts_from_the_page() -> None:
    chart = spread_chart("a b", 'Of "x" & y', np.array([1, 2]), np.array([0.0, 0.5, 1.0]), "shares", "people")
    assert "var(--first)" in chart
    assert "#0" not in chart
    assert "font-family" not in chart
    assert 'aria-label="Of &#34;x&#34; &amp; y"' in chart
    assert chart == spread_chart("a b", 'Of "x" & y', np.array([1, 2]), np.array([0.0, 0.5, 1.0]), "shares", "people")


@pytest.mark.parametrize(("label", "slanted"), [("a", False), ("a long name of a stretch", True)])
def test_long_labels_are_slanted(label: str, slanted: bool) -> None:
    rows = [(f"{label} {at}", 0.5, 0.4, 0.6) for at in range(8)]
    chart = interval_chart("x", "x", rows, "time", None)
    assert ("rotate(-35" in chart) == slanted
