import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest

from prefopt.config.ingest import FolderSource, TableSource
from prefopt.data.sources import Source, open_source
from prefopt.data.sources.base import BadRowError, ParsedRow
from prefopt.errors import InputError
from tests.kit.data import picture, write_parquet
from tests.kit.s3 import BUCKET, object_store

VOTE = {"shape": "vote", "prompt": "p", "image_0": "a", "image_1": "b", "label": "y", "annotator": "who", "time": "t"}
COUNTS = {"shape": "counts", "prompt": "p", "image_0": "a", "image_1": "b", "wins_0": "m", "wins_1": "n"}
RANKING = {"shape": "ranking", "prompt": "p", "images": "i", "ranks": "r", "annotator": "who"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


def table(path: Path | str, columns: dict[str, Any], **config: Any) -> Source:
    return open_source(TableSource.model_validate({"kind": "table", "path": str(path), "columns": columns, **config}))


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rows(source: Source, unit_rows: int = 100) -> list[ParsedRow]:
    return [source.parse(row) for unit in source.plan(unit_rows) for _, _, row in source.rows(unit)]


def votes(source: Source) -> list[tuple[int, int, Any, str, str]]:
    (row,) = rows(source)
    return [(vote.first, vote.second, vote.label, vote.annotator, vote.time) for vote in row.votes]


SHAPES: list[tuple[dict[str, Any], dict[str, Any], list[Any]]] = [
    (VOTE, {"p": "x", "a": "a.png", "b": "b.png", "y": 0.25, "who": "ann", "t": 7}, [(0, 1, 0.25, "ann", "7")]),
    (COUNTS, {"p": "x", "a": "a.png", "b": "b.png", "m": 2, "n": 1}, [(0, 1, label, "", "") for label in (1.0, 1.0, 0.0)]),  # noqa: E501
    (
        RANKING,
        {"p": "x", "i": ["a.png", "b.png", "c.png"], "r": [2, 1, 2], "who": "bob"},
        [(0, 1, 0.0, "bob", ""), (0, 2, 0.5, "bob", ""), (1, 2, 1.0, "bob", "")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "row", "expected"), SHAPES, ids=["vote", "counts", "ranking"])
def test_every_shape_from_parquet_and_jsonl(tmp_path: Path, columns: Any, row: Any, expected: Any) -> None:
    assert votes(table(write_parquet(tmp_path / "t.parquet", [row]), columns)) == expected
    assert votes(table(jsonl(tmp_path / "t.jsonl", row), columns)) == expected


@pytest.mark.parametrize(("columns", "row", "expected"), SHAPES, ids=["vote", "counts", "ranking"])
def test_every_shape_takes_a_category_and_knows_what_was_first(
    tmp_path: Path, columns: Any, row: Any, expected: Any
) -> None:
    path = jsonl(tmp_path / "t.jsonl", {**row, "topic": "art"})
    (found,) = rows(table(path, {**columns, "category": "topic"}))
    assert found.category == "art"
    assert {vote.ordered for vote in found.votes} == {columns["shape"] != "ranking"}
    (plain,) = rows(table(path, columns))
    assert plain.category == ""


@pytest.mark.parametrize("cell", [picture(1), {"bytes": picture(1), "path": None}], ids=["bytes", "struct"])
def test_images_as_bytes(tmp_path: Path, cell: Any) -> None:
    path = write_parquet(tmp_path / "t.parquet", [{"p": "x", "a": cell, "b": cell, "y": 1.0, "who": "", "t": ""}])
    (row,) = rows(table(path, VOTE))
    assert [image.data for image in row.images] == [picture(1)] * 2


def test_images_as_data_uris_and_files(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(picture(1)).decode()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.png").write_bytes(picture(2))
    source = table(
        jsonl(tmp_path / "t.jsonl", {"p": "x", "a": uri, "b": "sub/./b.png", "y": 1, "who": "", "t": 0}), VOTE
    )
    (row,) = rows(source)
    assert row.images[0].data == picture(1)
    assert row.images[1].path == "sub/b.png"
    assert source.image_bytes("sub/b.png", 10_000) == picture(2)


def test_absolute_paths_inside_the_image_directory_are_fine(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    inside = str(tmp_path / "images" / "a.png")
    path = jsonl(tmp_path / "t.jsonl", {"p": "x", "a": inside, "b": "b.png", "y": 1, "who": "", "t": 0})
    (row,) = rows(table(path, VOTE, images=str(tmp_path / "images")))
    assert row.images[0].path == "a.png"


@pytest.mark.parametrize(
    "cell",
    [
        "../secret.png", "/etc/passwd", "a/../../x.png", "http://x/y.png", "file:///etc/passwd", "a\\b.png", "a\0b.png",
        "\ud800.png", "data:image/png;base64,###", "data:image/png;base64,é", "", 7, None, [], {"path": "../x"},
        "s3://b/d?endpoint_override=elsewhere/x.png", "s3://key:secret@b/x.png",
    ],
)  # fmt: skip
def test_images_that_cannot_be(tmp_path: Path, cell: Any) -> None:
    path = jsonl(tmp_path / "t.jsonl", {"p": "x", "a": cell, "b": "b.png", "y": 1, "who": "", "t": 0})
    with pytest.raises(BadRowError) as caught:
        rows(table(path, VOTE))
    assert caught.value.reason in ("bad_image", "missing_field")


@pytest.mark.parametrize(
    ("name", "reason"), [("gone.png", "bad_image"), ("x" * 300, "bad_image"), ("folder", "bad_image")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    source = table(jsonl(tmp_path / "t.jsonl", {"p": "x"}), VOTE)
    with pytest.raises(BadRowError) as caught:
        source.image_bytes(name, 100)
    assert caught.value.reason == reason


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x" * 101)
    source = table(jsonl(tmp_path / "t.jsonl", {"p": "x"}), VOTE)
    with pytest.raises(BadRowError) as caught:
        source.image_bytes("a.png", 100)
    assert caught.value.reason == "image_too_large"


@pytest.mark.parametrize(
    "change",
    [
        {"m": -1}, {"m": 1.5}, {"m": "x"}, {"m": float("nan")}, {"m": None}, {"m": 0, "n": 0}, {"m": 10_001},
        {"m": 10**400}, {"m": [1]},
    ],
)  # fmt: skip
def test_counts_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    row = {**SHAPES[1][1], **change}
    with pytest.raises(BadRowError):
        rows(table(jsonl(tmp_path / "t.jsonl", row), COUNTS))


@pytest.mark.parametrize("ranks", [[1, 2], [1, 2, None], [1, 2, "x"], 3, None, [1, 2, float("inf")]])
def test_rankings_that_cannot_be(tmp_path: Path, ranks: Any) -> None:
    with pytest.raises(BadRowError):
        rows(table(jsonl(tmp_path / "t.jsonl", {**SHAPES[2][1], "r": ranks}), RANKING))


def test_annotators_that_are_no_text(tmp_path: Path) -> None:
    base = SHAPES[0][1]
    (row,) = rows(table(jsonl(tmp_path / "t.jsonl", {**base, "who": float("nan")}), VOTE))
    assert row.votes[0].annotator == ""
    with pytest.raises(BadRowError):
        rows(table(jsonl(tmp_path / "t.jsonl", {**base, "who": "\ud800"}), VOTE))


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_a_mapped_column_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    row = {"p": "x", "a": "a.png", "b": "b.png", "y": 1.0, "t": 0}
    write_parquet(path, [row]) if name.endswith("parquet") else jsonl(path, row, row)
    with pytest.raises(InputError, match=r"has no column 'who'; it has p, a, b, y, t"):
        table(path, VOTE).plan(10)


def test_a_jsonl_row_may_leave_a_field_out(tmp_path: Path) -> None:
    base = SHAPES[0][1]
    without = {name: value for name, value in base.items() if name != "who"}
    found = rows(table(jsonl(tmp_path / "t.jsonl", without, base), VOTE))
    assert [row.votes[0].annotator for row in found] == ["", "ann"]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    source = table(jsonl(tmp_path / "t.jsonl", SHAPES[0][1], "", SHAPES[0][1], "  "), VOTE)
    assert [number for unit in source.plan(2) for _, number, _ in source.rows(unit)] == [0, 2]


@pytest.mark.parametrize("line", ["{", "[1]", "7", '{"p": ' + "[" * 5000, '{"p": ' + "9" * 5000 + "}"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"t\.jsonl, line 2 "):
        rows(table(jsonl(tmp_path / "t.jsonl", SHAPES[0][1], line), VOTE))


@pytest.mark.parametrize("unit_rows", [1, 3, 100])
def test_jsonl_units_cover_every_row_once(tmp_path: Path, unit_rows: int) -> None:
    source = table(jsonl(tmp_path / "t.jsonl", *({**SHAPES[0][1], "p": f"é {n}"} for n in range(10))), VOTE)
    seen = [(number, row["p"]) for unit in source.plan(unit_rows) for _, number, row in source.rows(unit)]
    assert seen == [(n, f"é {n}") for n in range(10)]


FOLDERS = {
    "x.csv": "winner,loser,prompt,annotator\na.png,b.png,\"a cat, sitting\",ann\nb.png,a.png,a dog,\n",
    "x.tsv": "winner\tloser\tprompt\tannotator\na.png\tb.png\ta cat, sitting\tann\nb.png\ta.png\ta dog\t\n",
    "x.jsonl": '{"winner": "a.png", "loser": "b.png", "prompt": "a cat, sitting", "annotator": "ann"}\n'
    '{"winner": "b.png", "loser": "a.png", "prompt": "a dog"}\n',
    "bom.csv": "\ufeffprompt,winner,loser,annotator,extra\n\"a cat, sitting\",a.png,b.png,ann,1\na dog,b.png,a.png\n",
}  # fmt: skip


def folder(path: Path, text: str) -> Source:
    path.write_text(text, encoding="utf-8")
    return open_source(FolderSource(kind="folder", path=str(path), images=str(path.parent / "images")))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_a_list(tmp_path: Path, name: str) -> None:
    first, second = rows(folder(tmp_path / name, FOLDERS[name]), unit_rows=1)
    assert first.prompt == "a cat, sitting"
    assert [cell.path for cell in first.images] == ["a.png", "b.png"]
    assert (first.votes[0].label, first.votes[0].annotator) == (1.0, "ann")
    assert (second.prompt, second.votes[0].annotator) == ("a dog", "")


def test_a_folder_needs_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.csv has no column 'loser'; it has winner, prompt"):
        folder(tmp_path / "x.csv", "winner,prompt\na,b\n").plan(10)
    with pytest.raises(InputError, match=r"x\.csv has no column"):
        folder(tmp_path / "x.csv", "").plan(10)


def test_text_that_is_no_text(tmp_path: Path) -> None:
    source = folder(tmp_path / "x.csv", "")
    (tmp_path / "x.csv").write_bytes(b"winner,loser,prompt\n\xff\xfe,b,c\n")
    with pytest.raises(InputError, match="cannot be read as text"):
        source.plan(10)


def test_an_empty_cell_is_a_missing_field(tmp_path: Path) -> None:
    with pytest.raises(BadRowError, match="loser is empty"):
        rows(folder(tmp_path / "x.csv", "winner,loser,prompt\na.png,,x\n"))


def test_tables_and_images_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    client = boto3.client("s3")
    row = {**SHAPES[0][1], "a": "images/a.png", "b": f"{bucket}/other/b.png"}
    client.put_object(Bucket=BUCKET, Key="data/t.jsonl", Body=json.dumps(row).encode())
    client.upload_file(str(write_parquet(tmp_path / "t.parquet", [row])), BUCKET, "data/u.parquet")
    client.put_object(Bucket=BUCKET, Key="data/images/a.png", Body=picture(1))
    client.put_object(Bucket=BUCKET, Key="other/b.png", Body=picture(2))
    source = table(f"{bucket}/data", VOTE)
    assert source.files() == ["t.jsonl", "u.parquet"]
    for found in rows(source):
        cells = [source.image_bytes(cell.path, 10_000) for cell in found.images]
        assert cells == [picture(1), picture(2)]
    with pytest.raises(BadRowError, match="missing"):
        source.image_bytes(f"{bucket}/other/gone.png", 10)
    assert votes(table(f"{bucket}/data/t.jsonl", VOTE)) == SHAPES[0][2]
    with pytest.raises(InputError, match="There is no"):
        table(f"{bucket}/nothing", VOTE).files()
