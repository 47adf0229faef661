import datetime
from pathlib import Path
from typing import Any

import pytest

from prefopt.config.ingest import PickapicSource
from prefopt.data.sources import open_source
from prefopt.data.sources.base import BadRowError, ParsedRow
from prefopt.errors import InputError
from prefopt.world.dataset import write_dataset
from tests.kit.data import distinct, judgement, picture, write_parquet


def parsed(path: Path, group: str | None = None, unit_rows: int = 100) -> list[ParsedRow | BadRowError]:
    source = open_source(PickapicSource(kind="pickapic", path=str(path), group_column=group))
    found: list[ParsedRow | BadRowError] = []
    for unit in source.plan(unit_rows):
        for _, _, row in source.rows(unit):
            try:
                found.append(source.parse(row))
            except BadRowError as error:
                found.append(error)
    return found


def one(path: Path, row: dict[str, Any]) -> ParsedRow | BadRowError:
    (found,) = parsed(write_parquet(path / "x.parquet", [row]))
    return found


def test_version_1_columns(tmp_path: Path) -> None:
    row = judgement(
        "a cat", 1, 2, 1.0, 17, ranking_id=5, created_at=datetime.datetime(2023, 1, 2), has_label=True,
        best_image_uid="x", image_0_uid="x", image_1_uid="y", url_0="u", label_1=0.0,
    )  # fmt: skip
    found = one(tmp_path, row)
    assert isinstance(found, ParsedRow)
    (vote,) = found.votes
    assert found.prompt == "a cat"
    assert [cell.data for cell in found.images] == [picture(1), picture(2)]
    assert (vote.first, vote.second, vote.label, vote.annotator, vote.event) == (0, 1, 1.0, "17", "5")
    assert vote.time == "2023-01-02 00:00:00"


def test_groups_and_categories_have_columns_of_their_own(tmp_path: Path) -> None:
    row = judgement("a cat", 1, 2, 1.0, 17, taste="noir", topic="animals")
    path = str(write_parquet(tmp_path / "x.parquet", [row]))
    config = PickapicSource(kind="pickapic", path=path, group_column="taste", category_column="topic")
    source = open_source(config)
    ((_, _, values),) = [found for unit in source.plan(10) for found in source.rows(unit)]
    found = source.parse(values)
    assert (found.category, found.votes[0].group, found.votes[0].ordered) == ("animals", "noir", True)
    with pytest.raises(InputError, match="no column 'theme'"):
        open_source(config.model_copy(update={"category_column": "theme"})).plan(10)


def test_the_columns_that_count_are_enough(tmp_path: Path) -> None:
    found = one(tmp_path, judgement("a cat", 1, 2, 0.5))
    assert isinstance(found, ParsedRow)
    (vote,) = found.votes
    assert (vote.label, vote.annotator, vote.event, vote.time, vote.group) == (0.5, "", "", "", "")


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    found = one(tmp_path, judgement("a cat", 1, 2, 0.0, has_label=False))
    assert isinstance(found, BadRowError)
    assert found.reason == "missing_field"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (judgement("a", 1, 2, None), "missing_field"),
        (judgement("a", None, 2, 1.0), "missing_field"),
    ],
)
def test_nulls_are_missing_fields(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    other = judgement("b", 3, 4, 0.0)
    bad, good = parsed(write_parquet(tmp_path / "x.parquet", [row, other]))
    assert isinstance(bad, BadRowError)
    assert bad.reason == reason
    assert isinstance(good, ParsedRow)


def test_text_in_an_image_column_is_a_bad_image(tmp_path: Path) -> None:
    row = {"caption": "a", "jpg_0": "a.jpg", "jpg_1": "b.jpg", "label_0": 1.0}
    found = one(tmp_path, row)
    assert isinstance(found, BadRowError)
    assert found.reason == "bad_image"


def test_the_embedded_world_reads_with_its_groups(tmp_path: Path) -> None:
    write_dataset(tmp_path, pairs=12, seed=0, rows_per_file=5)
    rows = parsed(tmp_path, group="user_group")
    assert len(rows) >= 12
    assert all(isinstance(row, ParsedRow) and row.votes[0].group for row in rows)


@pytest.mark.parametrize("unit_rows", [1, 7, 16, 1000])
def test_units_cover_every_row_once_in_order(tmp_path: Path, unit_rows: int) -> None:
    write_parquet(tmp_path / "a.parquet", distinct(30), group_rows=4)
    write_parquet(tmp_path / "b.parquet", distinct(9, start=30), group_rows=20)
    source = open_source(PickapicSource(kind="pickapic", path=str(tmp_path)))
    units = source.plan(unit_rows)
    seen = [(file, number, row["caption"]) for unit in units for file, number, row in source.rows(unit)]
    wanted = [("a.parquet", n, f"prompt {n}") for n in range(30)]
    assert seen == [*wanted, *(("b.parquet", n, f"prompt {30 + n}") for n in range(9))]
    assert all(unit["count"] <= max(unit_rows, 9) for unit in units)
    prompts = [row for unit in units for *_, row in source.rows(unit, prompts_only=True)]
    assert all(row.keys() == {"caption"} for row in prompts)


def plan(path: Path, **config: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_source(PickapicSource(kind="pickapic", path=str(path), **config)).plan(10)
    return str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [{"caption": "a", "picture": b""}])
    message = plan(path)
    assert "has no column 'jpg_0', 'jpg_1', 'label_0'; it has caption, picture" in message
    write_parquet(path, distinct(1))
    assert "'team'" in plan(path, group_column="team")


@pytest.mark.parametrize("keep", [0, 3, 20, 400, -8, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "x.parquet", distinct(3))
    path.write_bytes(path.read_bytes()[:keep])
    assert "x.parquet is not a whole parquet file" in plan(path)


def test_damage_inside_a_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", distinct(20))
    data = bytearray(path.read_bytes())
    data[10:200] = bytes(190)
    path.write_bytes(data)
    source = open_source(PickapicSource(kind="pickapic", path=str(path)))
    with pytest.raises(InputError, match=r"x\.parquet cannot be read after row 0"):
        [row for unit in source.plan(100) for row in source.rows(unit)]


@pytest.mark.parametrize("name", ["gone.parquet", "gone", "empty", "notes.txt"])
def test_no_file_no_source(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert "There is no .parquet file at" in plan(tmp_path / name)
