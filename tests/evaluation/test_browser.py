"""The report in a real browser: it stays in its file, works by mouse and keys, fits a phone, and raises no error."""

import csv
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prefopt.config.evaluate import BootstrapConfig, EvaluateConfig
from prefopt.evaluation.breakdown import make_breakdown
from prefopt.evaluation.generation import png_bytes
from prefopt.evaluation.report import render_html
from prefopt.evaluation.sets import drawn_sets
from prefopt.evaluation.showcase import Changed, Shown, picture_bytes, picture_of
from prefopt.prompts import Prompt, PromptList, drawn_prompts
from tests.evaluation.test_report import broken_down, inputs

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
INSIDE = ("file:", "data:", "blob:", "about:")
IMAGES = 10_000


def picture(seed, side):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return picture_of(png_bytes(Image.fromarray(pixels)), seed / 10.0, picture_bytes(12, 2))


def shown(number, side):
    prompt = f"a red circle over a blue square, number {number}"
    return Shown(prompt, {"base": picture(2 * number, side), "tuned": picture(2 * number + 1, side)})


def many_scores():
    """Scores of 10,000 images by both models on two rewards, sliced by category."""
    rows = tuple(Prompt(f"prompt {number}", f"category {number % 20}") for number in range(IMAGES))
    lists = [PromptList("mine", "file", rows)]
    prompts = drawn_prompts(lists)
    config = EvaluateConfig(rewards=("world/true", "world/style"), bootstrap=BootstrapConfig(resamples=100))
    draw = np.random.default_rng(0)
    scores = {
        name: {"base": draw.normal(size=IMAGES), "tuned": draw.normal(0.1, size=IMAGES)} for name in config.rewards
    }
    return make_breakdown(config, scores, prompts, drawn_sets(lists, prompts, 1), [0])


def report(directory, side, breakdown, pairs):
    pictures = [shown(number, side) for number in range(pairs)]
    changed = [Changed(one, 0.5 - number) for number, one in enumerate(pictures[:2])]
    made = inputs(directory, showcase=pictures, breakdown=breakdown, gained=changed[:1], lost=changed[1:])
    file = directory / "report.html"
    file.write_text(render_html(made), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return report(tmp_path_factory.mktemp("browser"), 64, broken_down(), 3)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser, file):
    """The open report; afterwards nothing may have left it, and nothing may have gone wrong in it."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    requests, errors = watch(opened)
    opened.goto(file.as_uri())
    yield opened
    opened.close()
    assert requests
    assert [url for url in requests if not url.startswith(INSIDE)] == []
    assert errors == []


def watch(page):
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    return requests, errors


def keep(page, directory, name, *, whole=False):
    """A screenshot in the test's directory, and in the folder that PREFOPT_SCREENSHOTS names."""
    path = directory / f"{name}.png"
    page.screenshot(path=path, full_page=whole)
    assert path.stat().st_size > 0
    if wanted := os.environ.get("PREFOPT_SCREENSHOTS"):
        Path(wanted).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, wanted)


def fits(page):
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    return page.evaluate("document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth")


def test_the_grid_zooms_by_mouse(page, tmp_path):
    assert page.locator("dialog[open]").count() == 0
    page.locator("section[aria-labelledby=images] .duo img").first.click()
    assert page.locator("dialog[open] img").count() == 2
    assert "1 of 3" in page.locator("dialog").inner_text()
    small = page.locator("section[aria-labelledby=images] img").first.bounding_box()["width"]
    assert page.locator("dialog img").first.bounding_box()["width"] > 1.5 * small
    keep(page, tmp_path, "zoom")
    page.get_by_role("button", name="Next pair").click()
    assert "2 of 3" in page.locator("dialog").inner_text()
    page.get_by_role("button", name="Close").click()
    assert page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_grid_zooms_by_keyboard(page, key):
    page.locator("section[aria-labelledby=images] .zoom").first.focus()
    page.keyboard.press(key)
    dialog = page.locator("dialog[open]")
    assert "number 0" in dialog.inner_text()
    for arrow, number in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 2), ("ArrowRight", 0), ("ArrowRight", 1)):
        page.keyboard.press(arrow)
        assert f"number {number}" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    page.wait_for_function("document.activeElement.matches('li:nth-child(2) .zoom')", timeout=5000)


def test_keys_reach_the_content_first(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def test_every_section_has_an_anchor(page):
    for section in page.locator("main section").all():
        name = section.get_attribute("aria-labelledby")
        assert section.locator(f"h2#{name} a[href='#{name}']").count() == 1


def test_every_table_is_saved_as_csv(page, tmp_path):
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = page.locator("table").all()
    buttons = page.locator(".save button").all()
    assert len(tables) == len(buttons) > 8
    names = set()
    for table, button in zip(tables, buttons, strict=True):
        with page.expect_download() as download:
            button.click()
        names.add(download.value.suggested_filename)
        path = tmp_path / "table.csv"
        download.value.save_as(path)
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) == table.locator("tr").count()
        assert rows[0] == [" ".join(text.split()) for text in table.locator("thead th").all_text_contents()]
        firsts = table.locator("tbody tr > :first-child:not(.n)").all_text_contents()
        assert {" ".join(text.split()) for text in firsts} <= {row[0] for row in rows[1:]}
    assert len(names) == len(tables)
    assert all(name.endswith(".csv") for name in names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_overflows(page, tmp_path, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == (scheme == "dark")
    keep(page, tmp_path, f"{scheme}-{width}", whole=True)
    assert fits(page)
    page.locator(".duo").first.click()
    assert fits(page)
    box = page.locator("dialog[open]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    keep(page, tmp_path, f"{scheme}-{width}-zoom")


def test_print_leaves_controls_out(page):
    page.emulate_media(media="print")
    for controls in (".save", ".zoom", "nav"):
        assert not page.locator(controls).first.is_visible()


def test_ten_thousand_images_make_a_small_report(browser, tmp_path):
    file = report(tmp_path, 512, many_scores(), 12)
    size = file.stat().st_size
    assert size < 20e6
    page = browser.new_page()
    requests, errors = watch(page)
    start = time.perf_counter()
    page.goto(file.as_uri(), wait_until="load")
    print(f"{size / 1e6:.1f} MB, open after {time.perf_counter() - start:.2f} s")  # noqa: T201
    assert page.locator("section[aria-labelledby=images] .zoom").count() == 12
    assert fits(page)
    assert all(url.startswith(INSIDE) for url in requests)
    assert errors == []
    page.close()
