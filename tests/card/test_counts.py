import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.card.counts import count_data
from tests.kit.card import Pair, Vote
from tests.kit.card import parents as parents_of
from tests.kit.evaluation import FLIPPED, evaluation_context, pair_rows, vote_rows


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    return evaluation_context(tmp_path_factory.mktemp("card")).parents


@pytest.fixture(scope="module")
def card(parents):
    return count_data(parents["ingest"], parents["inject"])[0]


def test_votes_are_counted(card):
    # second votes: pairs 0, 6, 12, 18 contradict; pairs 1, 9, 17 tie; pair 0 is one annotator who changed
    assert (card.pairs, card.votes, card.ties, card.soft) == (24, 48, 3, 0)
    assert card.superseded == 1
    assert card.annotators_who_changed == 1
    assert card.pairs_with_disagreement == 3
    assert card.pairs_with_several_votes == 23
    assert (card.annotators, card.anonymous) == (2, 2)
    assert card.votes_per_annotator == {"least": 22.0, "median": 23.0, "mean": 23.0, "most": 24.0}


def test_splits_add_up(card):
    assert {name: counts["pairs"] for name, counts in card.splits.items()} == {"train": 12, "validation": 0, "test": 12}
    assert sum(counts.get("votes", 0) for counts in card.splits.values()) == card.votes
    assert (card.splits["train"]["prompts"], card.splits["test"]["prompts"]) == (8, 8)


def test_images_are_counted_without_their_pixels(card):
    assert (card.images, card.image_bytes, card.smallest_side, card.largest_side) == (48, 48_000, 32, 48)
    assert card.pairs_per_image == {"least": 1.0, "median": 1.0, "mean": 1.0, "most": 1.0}


def test_refused_rows_are_counted_by_reason(card):
    assert card.quarantine == {"bad_image": {"rows": 2, "votes": 4}, "duplicate_vote": {"rows": 1, "votes": 1}}
    assert (card.duplicates, card.moved_to_test) == (1, 1)


def test_votes_are_counted_by_annotator(parents):
    _, people = count_data(parents["ingest"], parents["inject"])
    assert people == {"person-0": 24, "person-1": 22}


def test_flips_are_counted_by_group(card):
    assert (card.flipped, card.eligible) == (FLIPPED, 24)
    assert sum(group["flipped"] for group in card.groups.values()) == FLIPPED
    assert {name: group["votes"] for name, group in card.groups.items()} == {"majority": 24, "noir": 24}


def test_one_shard_is_read_at_a_time(parents, monkeypatch):
    storage, read = parents["ingest"].storage, []
    original = type(storage).read_table

    def watched(self, relative, columns=None, filters=None):
        read.append((relative.split("-")[0], columns))
        return original(self, relative, columns, filters)

    monkeypatch.setattr(type(storage), "read_table", watched)
    count_data(parents["ingest"], parents["inject"])
    assert ("images", ["width", "height", "bytes"]) in read
    assert {name for name, _ in read} == {"pairs", "votes", "images", "quarantine.parquet", "truth"}


VOTES = st.lists(
    st.builds(Vote, st.sampled_from(["ann", "bob", ""]), st.sampled_from([0.0, 0.3, 0.5, 1.0]), latest=st.booleans()),
    min_size=1,
    max_size=4,
)
PAIRS = st.builds(
    Pair,
    VOTES,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["train", "test"]),
    st.tuples(st.just(0), st.integers(1, 3)),
)


@settings(max_examples=5)
@given(st.lists(PAIRS, min_size=1, max_size=6), st.integers(2, 4))
def test_counts_do_not_depend_on_the_shards(pairs, cut):
    with tempfile.TemporaryDirectory() as place:
        whole = parents_of(Path(place) / "whole", pairs)
        apart = parents_of(Path(place) / "apart", pairs, cut=cut)
        assert count_data(whole["ingest"], whole["inject"]) == count_data(apart["ingest"], apart["inject"])


def test_the_kit_is_what_the_counts_above_assume():
    pairs = pair_rows()
    votes = {}
    for vote in vote_rows(pairs):
        votes.setdefault(vote["pair_id"], []).append(vote["label"])
    assert sum(len(set(labels) - {0.5}) == 2 for labels in votes.values()) == 4
