import re
from pathlib import Path

import pytest

from prefopt.card.page import PICTURE_BYTES, Picture, render_card
from prefopt.card.survey import Survey
from prefopt.config.card import CardConfig
from prefopt.page.pictures import data_uri
from tests.kit.card import HOSTILE, Pair, Vote, surveyed, varied_pairs
from tests.kit.pages import Page, check_access, check_page

CONFIG = CardConfig(least_votes=1, clusters=3, pairs=100)
KEYS = {"ingest": "a" * 64, "inject": "b" * 64, "score": "c" * 64}


def rendered(found: Survey, config: CardConfig = CONFIG, picture: bytes = b"xyz") -> str:
    pictures = {
        one.suspect.pair[side]: Picture(data_uri("jpeg", picture), small=False)
        for one in found.suspects
        for side in ("image_0", "image_1")
    }
    return render_card(found, config, pictures, KEYS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return surveyed(tmp_path_factory.mktemp("page"), varied_pairs(), config=CONFIG)


@pytest.fixture(scope="module")
def html(found: Survey) -> str:
    return rendered(found)


def text(html: str) -> str:
    return " ".join("".join(Page(html).text).split())


def test_the_page_stands_alone_and_is_accessible(html: str) -> None:
    check_page(html)
    check_access(html)
    outside = [a["href"] for a in Page(html).all("a") if not a["href"].startswith("#")]
    assert set(outside) == {"https://arxiv.org/abs/2503.16921"}


def test_every_part_is_there(html: str, found: Survey) -> None:
    headings = re.findall(r'<h2[^>]* id="(\w+)"', html)
    assert headings == [
        *(
            "findings",
            "counts",
            "duplicates",
            "ties",
            "contradictions",
            "annotators",
            "prompts",
            "suspicious",
            "reading",
        )
    ]
    page = Page(html)
    assert len(page.all("img")) == 2 * len(found.suspects)
    assert len(page.all("svg")) == 7, "three shares over annotators, three over time, and u"
    said = text(html)
    for one in found.suspects:
        assert all(reason in said for reason in one.reasons)
    for group in found.clusters:
        assert group.name in said


def test_a_hostile_prompt_is_text(html: str) -> None:
    assert "<script" not in html
    assert "alert(1)" in text(html)
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|49(?=\n</style)", html)
    assert html.count("</style>") == 1


def test_a_hostile_annotator_is_text(tmp_path: Path) -> None:
    pairs = [Pair([Vote(HOSTILE, 1.0), Vote("b", 0.0)], category=HOSTILE)]
    html = rendered(surveyed(tmp_path, pairs, config=CardConfig(least_votes=1, annotators="shown")))
    check_page(html)
    assert "<script" not in html
    assert text(html).count("alert(1)") >= 3


def test_ids_are_hidden_and_it_is_said(html: str, tmp_path: Path) -> None:
    assert "person " not in html
    assert "a short digest stands for each" in text(html)
    shown = CardConfig(least_votes=1, annotators="shown")
    known = text(rendered(surveyed(tmp_path, varied_pairs(), config=shown), shown))
    assert "person 3" in known
    assert "Ids are shown as the sources give them" in known


def test_without_a_panel_it_says_what_to_configure(tmp_path: Path) -> None:
    html = rendered(surveyed(tmp_path, varied_pairs(panel=False), config=CONFIG))
    check_page(html)
    check_access(html)
    said = text(html)
    assert said.count("score.panel: {rewards: [...]}") == 2
    assert "Mean u" not in said
    assert "The mean u of a group is missing" in said


def test_bare_data_have_a_card_too(tmp_path: Path) -> None:
    html = rendered(surveyed(tmp_path, [Pair([Vote("", 1.0)])]))
    check_page(html)
    check_access(html)
    said = text(html)
    for sentence in (
        "The sources name no annotators.",
        "do not say which image was shown first",
        "No pair was decided by two or more votes",
        "No pair has a label that anything speaks against.",
    ):
        assert sentence in said


def test_a_source_that_lists_winners_first_is_told(tmp_path: Path) -> None:
    said = text(rendered(surveyed(tmp_path, [Pair([Vote("a", 1.0, first=0)])] * 20)))
    assert "the source lists winners on one side" in said


def test_the_page_is_bounded(tmp_path: Path) -> None:
    """The largest pictures, as many pairs as can be, long texts, crowds, many groups of everything."""
    long = "very long word " * 500
    pairs = [
        Pair([Vote(f"{long} {vote}", float(vote % 2)) for vote in range(20)], f"{long} {at}", category=f"{long} {at}")
        for at in range(120)
    ]
    config = CardConfig(pairs=100, clusters=50, least_votes=1, annotators="shown")
    html = rendered(surveyed(tmp_path, pairs, config=config), config, b"x" * PICTURE_BYTES)
    assert html.count("<img") == 200
    assert len(html.encode()) < 200 * PICTURE_BYTES * 4 / 3 + 1_000_000


def test_the_same_figures_give_the_same_bytes(html: str, found: Survey) -> None:
    assert rendered(found) == html


def test_no_pictures_are_shown_if_none_are_asked_for(found: Survey) -> None:
    html = rendered(found, CardConfig(pairs=0))
    assert "<img" not in html
    check_page(html)
