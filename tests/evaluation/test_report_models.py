"""Reports of several models, with and without a run, and what they show of diversity and distance."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.schema import SOURCES
from prefopt.evaluation.diversity import feature_figures
from prefopt.evaluation.lineage import MOST_FILES
from prefopt.evaluation.pareto import Point, frontier
from prefopt.evaluation.ranking import Rank
from prefopt.evaluation.report import render_html, render_markdown
from prefopt.evaluation.results import Results, metrics
from prefopt.evaluation.showcase import Picture, Shown
from prefopt.evaluation.statistics import Resampling
from tests.evaluation.test_report import NASTY, broken_down, comparison, estimate, inputs
from tests.kit.evaluation import evaluation_config
from tests.kit.pages import Page, check_access, check_page, check_scripts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


def without_a_run(place, *names):
    """Models compared as they are."""
    models = {name: [comparison(), comparison("world/style", 0.4, 0.45, 0.55)] for name in names}
    models = {name: [dataclasses.replace(one, model=name) for one in found] for name, found in models.items()}
    ranking = [Rank(name, 0.7, won=9, lost=1, p=0.02, adjusted=0.04) for name in names] if len(names) > 1 else []
    results = Results("my-model", "half", models, None, 0, [], ranking)
    picture = Picture("data:image/png;base64,AAAA", -1.25, small=True)
    weights = [(name, f"owner/{name}", "0" * 64) for name in ("base", *names)]
    showcase = [Shown(NASTY, dict.fromkeys(("base", *names), picture))]
    return inputs(place, results=results, run=None, weights=weights, showcase=showcase, breakdown=broken_down())


@pytest.mark.parametrize("names", [("other",), ("other", "third-model")], ids=str)
def test_models_compared_without_a_run(place, names):
    made = without_a_run(place, *names)
    html, markdown = render_html(made), render_markdown(made)
    check_page(html, scripts=1)
    check_access(html)
    check_scripts(html, 1)
    assert f"{' and '.join(names)} against my-model" in html
    assert "other wins 70.0% of comparisons with the base" in html
    for gone in ("Training", "Minority labels", "Data card", "tuned model", "Adaptive-DPO"):
        assert gone not in html
        assert gone not in markdown
    assert "owner/other" in html
    assert html.count("<img ") == 1 + len(names)
    assert ('id="models"' in html) == ("| model | win rate" in markdown) == (len(names) > 1)
    assert "\n\n\n" not in markdown


def test_source_files_and_keys_are_told(place):
    files = [{"source": 0, "kind": "pickapic", "file": NASTY, "bytes": 1000, "sha256": "ab" * 32}] * (MOST_FILES + 1)
    html = render_html(inputs(place, sources=pa.Table.from_pylist(files, schema=SOURCES), key="c0ffee" * 8))
    check_page(html, scripts=1)
    check_access(html)
    check_scripts(html, 1)
    assert "51 source files, 51.0 kB" in html
    assert html.count("abababababababab") == MOST_FILES
    assert "<code>c0ffeec0ffee</code>" in html


def features(*names):
    """Figures of two samples of each of four prompts."""
    draw = np.random.default_rng(0)
    units = {name: draw.normal(size=(4, 2, 8)) for name in ("base", *names)}
    units = {name: found / np.linalg.norm(found, axis=-1, keepdims=True) for name, found in units.items()}
    return feature_figures("kit", "1", units, list("abcd"), Resampling(BootstrapConfig(resamples=100), 0))


def test_diversity_and_distance_are_shown(place):
    results = dataclasses.replace(inputs(place).results, features=features("tuned"))
    html, markdown = render_html(inputs(place, results=results)), render_markdown(inputs(place, results=results))
    check_page(html, scripts=1)
    check_access(html)
    section = html.split('<h2 id="features">')[1].split("</section>")[0]
    assert section.count("<tr>") == 3
    assert "<svg" not in section  # one model makes no frontier
    assert "Distance of tuned from the base" in markdown
    both = without_a_run(place, "other", "third-model")
    both = dataclasses.replace(
        both, results=dataclasses.replace(both.results, features=features("other", "third-model"))
    )
    section = render_html(both).split('<h2 id="features">')[1].split("</section>")[0]
    assert "third-model</text>" in section or ">third-model<" in section
    assert "\n\n\n" not in render_markdown(both)


def test_the_frontier_by_hand():
    points = [
        Point(name, estimate(wins), estimate(far))
        for name, wins, far in (("a", 0.6, 0.3), ("b", 0.7, 0.2), ("c", 0.7, 0.4), ("d", 0.9, 0.5), ("e", 0.4, 0.1))
    ]
    assert [point.name for point in frontier(points)] == ["b", "d"]
    assert frontier([]) == []


def test_other_models_stand_beside_the_tuned_one(place):
    results = inputs(place).results
    others = {**results.models, "plain": [dataclasses.replace(one, model="plain") for one in results.comparisons]}
    ranking = [
        Rank("plain", 0.8, won=8, lost=2, p=0.1, adjusted=0.2),
        Rank("tuned", 0.7, won=9, lost=1, p=0.02, adjusted=0.04),
    ]
    made = inputs(place, results=dataclasses.replace(results, models=others, ranking=ranking))
    html = render_html(made)
    check_page(html, scripts=1)
    assert "better: tuned (70.0%); not told apart from it: plain (80.0%)." in html
    found = metrics(made.results)
    assert list(found["models"]) == ["tuned", "plain"]
    assert [row["model"] for row in found["ranking"]["rows"]] == ["plain", "tuned"]


def test_a_protocol_is_named_with_what_was_changed(tmp_path):
    place = {"model": tmp_path / "base", "store": tmp_path / "store"}
    config = evaluation_config(**place, protocol="npo_sd15", sampler={"steps": 2, "resolution": 32}, average="median")
    html, markdown = (render(inputs(tmp_path, config=config)) for render in (render_html, render_markdown))
    text = " ".join("".join(Page(html).text).split())
    assert "dpmsolver++, 2 steps, guidance 7.5, 32 pixels. By the protocol npo_sd15, but with" in text
    assert "sampler.steps 2 in place of 25 and sampler.resolution 32 in place of 512" in text
    assert "It does not state samples_per_prompt and seed." in text
    assert "ties: nobody" in text
    assert "Drawn with dpmsolver++, 2 steps, guidance 7.5, 32 pixels, 1 image per prompt, seed 0. By" in markdown
    assert "| base median | median |" in markdown
    assert "| \N{MINUS SIGN}0.2 | 0.4 |" in markdown


def test_without_a_protocol_markdown_says_how_images_were_drawn(tmp_path):
    markdown = render_markdown(inputs(tmp_path))
    assert "- Drawn with ddim, 2 steps, guidance 3, 32 pixels, 1 image per prompt, seed 0.\n" in markdown
    assert "| base mean | mean |" in markdown
    assert "protocol" not in markdown
