"""The Pick-a-Pic schema, v1 and v2: one row per judgement, both images as bytes in the row."""

from typing import Any

from prefopt.config.ingest import PickapicSource
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, require, text
from prefopt.data.sources.files import TableFiles, TableReader

_REQUIRED = ["caption", "jpg_0", "jpg_1", "label_0"]
_OPTIONAL = ["user_id", "ranking_id", "created_at", "has_label"]


class Pickapic(TableReader):
    """Reads Pick-a-Pic parquet files."""

    def __init__(self, config: PickapicSource) -> None:
        self._group, self._category = config.group_column, config.category_column
        required = [*_REQUIRED, *[name for name in (self._group, self._category) if name]]
        super().__init__(TableFiles(config.path, (".parquet",), required, _OPTIONAL), "caption")

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
        category = text(row.get(self._category)) if self._category else ""
        return ParsedRow(prompt=self.prompt(row), images=images, votes=[vote], category=category)


def _bytes(row: dict[str, Any], name: str) -> bytes:
    data = require(row, name)
    if not isinstance(data, bytes):
        raise BadRowError("bad_image", f"{name} holds {type(data).__name__}, not bytes")
    return data
