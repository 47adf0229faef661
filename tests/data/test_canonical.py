from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.ingest import IngestConfig, Limits, Split
from prefopt.data.canonical import canonical_row, check_label, check_prompt, split_of
from prefopt.data.ids import image_id
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote
from tests.kit.data import picture

CONFIG = IngestConfig.model_validate({"sources": [{"kind": "world"}]})


def votes(
    *cells: bytes, labels: list[tuple[int, int, Any]], prompt: Any = "a cat", where: str = "row", **who: Any
) -> Any:
    images = [ImageCell(column=f"c{n}", data=cell) for n, cell in enumerate(cells)]
    parsed = ParsedRow(prompt, images, [RawVote(a, b, label, **who) for a, b, label in labels])
    return canonical_row(parsed, CONFIG, lambda cell: cell.data or b"", where)[1]


@given(st.integers(0, 50), st.integers(51, 99), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_orientation_is_by_image_id_and_the_label_follows(first: int, second: int, label: float) -> None:
    a, b = picture(first), picture(second)
    (one,) = votes(a, b, labels=[(0, 1, label)], annotator="x")
    (two,) = votes(b, a, labels=[(0, 1, 1.0 - label)], annotator="x")
    assert one | {"shown_first": None} == two | {"shown_first": None}
    assert one["shown_first"] == 1 - two["shown_first"] == int(image_id(a) != one["image_0"])
    assert one["image_0"] < one["image_1"]
    assert one["label"] == (label if image_id(a) == one["image_0"] else 1.0 - label)


def test_an_order_that_was_not_seen_is_not_kept() -> None:
    (vote,) = votes(picture(1), picture(2), labels=[(0, 1, 1.0)], ordered=False)
    assert vote["shown_first"] is None


def test_votes_are_told_apart_by_event_then_time_then_label_then_place() -> None:
    a, b = picture(1), picture(2)

    def ids(label: float = 1.0, where: str = "row", **who: str) -> str:
        vote_id: str = votes(a, b, labels=[(0, 1, label)], where=where, **who)[0]["vote_id"]
        return vote_id

    assert ids(event="1", annotator="x") == ids(event="1", annotator="x", where="elsewhere")
    assert ids(event="1", annotator="x") != ids(event="2", annotator="x")
    assert ids(time="1", annotator="x") != ids(time="2", annotator="x")
    assert ids(annotator="x") == ids(annotator="x", where="elsewhere")
    assert ids(annotator="x") != ids(annotator="x", label=0.0)
    assert ids() != ids(where="elsewhere")


@pytest.mark.parametrize("label", [-0.1, 1.1, 2, float("nan"), float("inf"), 10**400, "1", None, True, [1]])
def test_labels_that_are_no_probability(label: Any) -> None:
    with pytest.raises(BadRowError) as caught:
        check_label(label)
    assert caught.value.reason == "bad_label"
    assert len(caught.value.detail) < 150


@pytest.mark.parametrize("label", [0, 1, 0.5, 0.25])
def test_labels_that_are(label: float) -> None:
    assert check_label(label) == label


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (None, "missing_field"), (7, "missing_field"), ("", "empty_prompt"), (" \n\t", "empty_prompt"),
        ("\ud800", "missing_field"), ("x" * 100_000, "prompt_too_long"), ("é" * 4_001, "prompt_too_long"),
    ],
)  # fmt: skip
def test_prompts_that_are_refused(prompt: Any, reason: str) -> None:
    with pytest.raises(BadRowError) as caught:
        check_prompt(prompt, Limits())
    assert caught.value.reason == reason


def test_a_refused_prompt_counts_all_votes_of_its_row() -> None:
    with pytest.raises(BadRowError) as caught:
        votes(picture(1), picture(2), labels=[(0, 1, 1.0)] * 3, prompt="")
    assert caught.value.votes == 3


def test_a_bad_image_spoils_its_own_votes_only() -> None:
    one, two, three = votes(
        picture(1), b"junk", picture(3), labels=[(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)], annotator="x"
    )
    assert isinstance(one, BadRowError)
    assert isinstance(three, BadRowError)
    assert two["label"] in (0.0, 1.0)
    assert "c1" in one.detail


def test_an_image_against_itself_is_no_pair() -> None:
    (vote,) = votes(picture(1), picture(1), labels=[(0, 1, 1.0)])
    assert isinstance(vote, BadRowError)
    assert "same" in vote.detail


def test_splits_have_their_shares_and_depend_on_prompt_and_seed_alone() -> None:
    split = Split(seed=0, validation=0.1, test=0.2)
    found = Counter(split_of(f"prompt {n}", split) for n in range(4000))
    assert abs(found["test"] - 800) < 100
    assert abs(found["validation"] - 400) < 80
    assert split_of("A  cat.", split) == split_of("a cat", split)
    moved = Split(seed=1, validation=0.1, test=0.2)
    assert any(split_of(f"prompt {n}", split) != split_of(f"prompt {n}", moved) for n in range(20))


def test_a_larger_validation_share_moves_nothing_into_test() -> None:
    small, large = Split(validation=0.1, test=0.2), Split(validation=0.4, test=0.2)
    prompts = [f"prompt {n}" for n in range(500)]
    assert {p for p in prompts if split_of(p, small) == "test"} == {p for p in prompts if split_of(p, large) == "test"}


def test_a_row_without_votes_is_refused_not_lost() -> None:
    with pytest.raises(BadRowError, match="holds no vote") as caught:
        canonical_row(ParsedRow("a prompt", [], []), CONFIG, lambda cell: b"", "x")
    assert (caught.value.reason, caught.value.votes) == ("missing_field", 1)
