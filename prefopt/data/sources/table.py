"""Any parquet or JSONL table by a column map, and folders of images with a CSV or JSONL of winner and loser."""

import base64
from typing import Any

from prefopt.config.ingest import CountColumns, FolderSource, RankingColumns, TableSource, VoteColumns
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, require, text
from prefopt.data.sources.files import ImageFiles, TableFiles, TableReader
from prefopt.data.sources.rankings import count_votes, ranking_votes


class MappedTable(TableReader):
    """Reads a table through a column map: one row per vote, counts per pair, or one ranking per row."""

    def __init__(self, config: TableSource) -> None:
        self._columns = config.columns
        named = config.columns.model_dump(exclude={"shape"}, exclude_none=True)
        tables = TableFiles(config.path, (".parquet", ".jsonl"), list(named.values()), [])
        super().__init__(tables, config.columns.prompt, ImageFiles(config.images) if config.images else None)

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        columns = self._columns
        prompt, category = self.prompt(row), text(row.get(columns.category)) if columns.category else ""
        if isinstance(columns, RankingColumns):
            cells = require(row, columns.images)
            ranks = require(row, columns.ranks)
            if not isinstance(cells, list) or not isinstance(ranks, list):
                raise BadRowError("bad_label", f"{columns.images} and {columns.ranks} must be lists")
            images = [self._cell(f"{columns.images}[{index}]", cell) for index, cell in enumerate(cells)]
            return ParsedRow(prompt, images, ranking_votes(ranks, len(images), **_who(row, columns)), category)
        images = [self._cell(name, require(row, name)) for name in (columns.image_0, columns.image_1)]
        if isinstance(columns, CountColumns):
            votes = count_votes(require(row, columns.wins_0), require(row, columns.wins_1))
        else:
            who = _who(row, columns)
            votes = [RawVote(0, 1, require(row, columns.label), who["annotator"], who["group"], who["time"])]
        return ParsedRow(prompt, images, votes, category)

    def _cell(self, column: str, value: Any) -> ImageCell:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value.startswith("data:"):
            try:
                value = base64.b64decode(value.partition(",")[2], validate=True)
            except ValueError:
                raise BadRowError("bad_image", f"{column} holds a damaged data URI") from None
        if isinstance(value, bytes):
            return ImageCell(column=column, data=value)
        return ImageCell(path=self._images.relative(value))


def _who(row: dict[str, Any], columns: VoteColumns | RankingColumns) -> dict[str, str]:
    named = {"annotator": columns.annotator, "group": columns.group, "time": columns.time}
    return {field: text(row.get(name)) if name else "" for field, name in named.items()}


class Folder(TableReader):
    """Reads a CSV, TSV or JSONL of winner, loser, prompt and optional annotator, with images in a folder."""

    def __init__(self, config: FolderSource) -> None:
        required = ["winner", "loser", "prompt"]
        tables = TableFiles(config.path, (".csv", ".tsv", ".jsonl"), required, ["annotator"])
        super().__init__(tables, "prompt", ImageFiles(config.images))

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        images = [ImageCell(path=self._images.relative(require(row, name))) for name in ("winner", "loser")]
        vote = RawVote(0, 1, 1.0, annotator=text(row.get("annotator")), ordered=False)
        return ParsedRow(self.prompt(row), images, [vote])
