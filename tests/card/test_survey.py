import json
from pathlib import Path

import pytest

from prefopt.card.figures import figures, suspicious_csv
from prefopt.card.survey import NO_CATEGORY, Survey
from prefopt.config.card import CardConfig
from tests.kit.card import HOSTILE, Pair, Vote, surveyed, varied_pairs

CONFIG = CardConfig(least_votes=1, clusters=3)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return surveyed(tmp_path_factory.mktemp("survey"), varied_pairs(), config=CONFIG)


def test_the_figures_add_up(found: Survey) -> None:
    counts = found.counts
    assert (counts.pairs, counts.votes, counts.ties, counts.annotators) == (80, 108, 8, 6)
    assert (found.ties.hits, found.ties.n) == (8, 108)
    assert sum(group.pairs for group in found.clusters) == sum(group.pairs for group in found.categories) == 80
    assert sum(group.votes for group in found.clusters) == 108
    assert 1 < len(found.clusters) <= 3
    assert {group.name for group in found.categories} == {NO_CATEGORY, "art", HOSTILE}
    assert found.has_panel
    assert len(found.times) == len(found.people.everyone_by_time["first"]) > 1
    assert found.contradicted.n == found.agreement.n > 0


def test_near_duplicates_are_shown_in_their_spellings(found: Survey) -> None:
    assert found.duplicates.near_duplicates_across_splits == 1
    assert found.spellings == [["A red Cat", "a red cat!"]]


def test_listed_pairs_say_why(found: Survey) -> None:
    assert 0 < found.suspects_found == len(found.suspects)
    assert all(one.reasons for one in found.suspects)
    names = {vote.annotator for one in found.suspects for vote in one.suspect.judgements}
    assert not any("person" in name for name in names)


def test_no_figure_depends_on_the_shards(found: Survey, tmp_path: Path) -> None:
    apart = surveyed(tmp_path, varied_pairs(), cut=7, config=CONFIG)
    assert figures(apart, CONFIG) == figures(found, CONFIG)
    assert suspicious_csv(apart.suspects) == suspicious_csv(found.suspects)


def test_the_list_is_cut_and_the_rest_is_counted(found: Survey, tmp_path: Path) -> None:
    few = surveyed(tmp_path, varied_pairs(), config=CardConfig(pairs=2, listed=3, least_votes=1))
    assert few.suspects == found.suspects[:3]
    assert few.suspects_found == found.suspects_found


def test_annotators_with_few_votes_are_not_listed(tmp_path: Path) -> None:
    found = surveyed(tmp_path, varied_pairs(), config=CardConfig(least_votes=10))
    assert found.counts.annotators == 6
    assert found.people.counted == 5


def test_data_with_nothing_but_votes(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [Pair([Vote("", 1.0)]), Pair([Vote("", 0.5)])])
    assert not found.has_panel
    assert found.suspects == found.categories == found.times == found.spellings == []
    assert found.people.listed == []
    assert found.agreement.value is None
    json.dumps(figures(found, CONFIG), allow_nan=False)
