"""The Pick-a-Pic schema, v1 and v2: one row per judgement, both images as bytes in the row."""

from collections.abc import Iterator
from typing import Any

from prefopt.config.ingest import PickapicSource
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, require, text
from prefopt.data.sources.files import TableFiles
from prefopt.data.storage import Storage

_REQUIRED = ["caption", "jpg_0", "jpg_1", "label_0"]
_OPTIONAL = ["user_id", "ranking_id", "created_at", "has_label"]


class Pickapic:
    """Reads Pick-a-Pic parquet files."""

    def __init__(self, config: PickapicSource) -> None:
        self._group = config.group_column
        required = [*_REQUIRED, self._group] if self._group else _REQUIRED
        self._tables = TableFiles(config.path, (".parquet",), required, _OPTIONAL)

    @property
    def root(self) -> Storage:
        return self._tables.root

    def files(self) -> list[str]:
        return self._tables.names()

    def plan(self, unit_rows: int) -> list[dict[str, Any]]:
        return self._tables.plan(unit_rows)

    def rows(self, unit: dict[str, Any], prompts_only: bool = False) -> Iterator[tuple[str, int, dict[str, Any]]]:
        return self._tables.rows(unit, ["caption"] if prompts_only else None)

    def prompt(self, row: dict[str, Any]) -> Any:
        return row.get("caption")

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        if row.get("has_label") is False:
            raise BadRowError("missing_field", "has_label is false")
        vote = RawVote(
            first=0,
            second=1,
            label=require(row, "label_0"),
            annotator=text(row.get("user_id")),
            group=text(row.get(self._group)) if self._group else "",
            time=text(row.get("created_at")),
            event=text(row.get("ranking_id")),
        )
        images = [ImageCell(column=name, data=_bytes(row, name)) for name in ("jpg_0", "jpg_1")]
        return ParsedRow(prompt=row.get("caption"), images=images, votes=[vote])

    def image_bytes(self, file: str, limit: int) -> bytes:
        raise AssertionError("Pick-a-Pic images lie in the table")


def _bytes(row: dict[str, Any], name: str) -> bytes:
    data = require(row, name)
    if not isinstance(data, bytes):
        raise BadRowError("bad_image", f"{name} holds {type(data).__name__}, not bytes")
    return data
