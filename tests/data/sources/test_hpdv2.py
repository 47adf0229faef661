import json
from pathlib import Path
from typing import Any

import pytest

from prefopt.config.ingest import Hpdv2Source
from prefopt.data.sources import open_source
from prefopt.data.sources.base import BadRowError, ParsedRow
from prefopt.errors import InputError


def source(tmp_path: Path, entries: Any, name: str = "train.json") -> Any:
    text = entries if isinstance(entries, str) else json.dumps(entries)
    (tmp_path / name).write_text(text)
    return open_source(Hpdv2Source(kind="hpdv2", path=str(tmp_path / name), images=str(tmp_path / "images")))


def parsed(tmp_path: Path, entry: dict[str, Any]) -> ParsedRow:
    found = source(tmp_path, [entry])
    ((_, number, row),) = [row for unit in found.plan(10) for row in found.rows(unit)]
    assert number == 0
    result: ParsedRow = found.parse(row)
    return result


TRAIN = {"prompt": "a cat", "file_path": ["a.jpg", "b.jpg"], "human_preference": [0, 1], "user_hash": "x"}
TEST = {
    "prompt": "a cat",
    "image_path": ["a.jpg", "b.jpg", "c.jpg"],
    "raw_annotations": [{"rank": [2, 1, 3], "user_hash": "ann"}, {"rank": [1, 1, 2], "user_hash": "bob"}],
}


def test_train_holds_one_choice_per_entry(tmp_path: Path) -> None:
    row = parsed(tmp_path, TRAIN)
    assert row.prompt == "a cat"
    assert [cell.path for cell in row.images] == ["a.jpg", "b.jpg"]
    assert [(vote.first, vote.second, vote.label) for vote in row.votes] == [(0, 1, 0.0)]
    assert [(vote.annotator, vote.ordered) for vote in row.votes] == [("x", True)]
    nameless = {name: value for name, value in TRAIN.items() if name != "user_hash"}
    assert [vote.annotator for vote in parsed(tmp_path, nameless).votes] == [""]


def test_test_holds_a_ranking_of_each_annotator(tmp_path: Path) -> None:
    votes = parsed(tmp_path, TEST).votes
    assert [(v.annotator, v.first, v.second, v.label) for v in votes] == [
        ("ann", 0, 1, 0.0), ("ann", 0, 2, 1.0), ("ann", 1, 2, 1.0),
        ("bob", 0, 1, 0.5), ("bob", 0, 2, 1.0), ("bob", 1, 2, 1.0),
    ]  # fmt: skip


def test_many_images_give_k_choose_2_votes(tmp_path: Path) -> None:
    entry = {**TEST, "image_path": [f"{n}.jpg" for n in range(9)], "raw_annotations": [{"rank": list(range(9))}]}
    votes = parsed(tmp_path, entry).votes
    assert len(votes) == 36
    assert not any(vote.ordered for vote in votes), "how nine images were laid out is not known"
    assert {vote.label for vote in votes} == {1.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_path": None}, "missing_field"),
        ({"file_path": "a.jpg"}, "missing_field"),
        ({"file_path": ["a.jpg", "../../etc/passwd"]}, "bad_image"),
        ({"file_path": ["a.jpg", 7]}, "missing_field"),
        ({"human_preference": None}, "missing_field"),
        ({"human_preference": 1}, "bad_label"),
        ({"human_preference": [1]}, "bad_label"),
        ({"human_preference": [1, "x"]}, "bad_label"),
        ({"human_preference": [1, float("nan")]}, "bad_label"),
    ],
)
def test_faulty_train_entries(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRowError) as caught:
        parsed(tmp_path, {**TRAIN, **change})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "annotations", [None, 3, [3], [{"user_hash": "x"}], [{"rank": 3}], [{"rank": "123"}], [{"rank": [1]}]]
)
def test_faulty_annotations(tmp_path: Path, annotations: Any) -> None:
    with pytest.raises(BadRowError):
        parsed(tmp_path, {**TEST, "raw_annotations": annotations})


def test_units_cover_a_long_file_once(tmp_path: Path) -> None:
    found = source(tmp_path, [{**TRAIN, "prompt": "é" * 500 + str(n)} for n in range(5000)])
    rows = [(number, row["prompt"][500:]) for unit in found.plan(700) for _, number, row in found.rows(unit)]
    assert rows == [(n, str(n)) for n in range(5000)]


@pytest.mark.parametrize("text", ["", "{}", "[{", '[{"prompt": "a"},', "[1]", "[" * 5000, "nonsense", '[{"a": 1}'])
def test_what_is_not_a_json_array_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"train\.json"):
        source(tmp_path, text).plan(10)


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert source(tmp_path, " [ ]\n").plan(10) == []
