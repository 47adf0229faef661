"""HPDv2: train.json holds one choice per entry, test.json several annotators' rankings per prompt."""

from collections.abc import Iterator
from typing import Any

from prefopt.config.ingest import Hpdv2Source
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, require, text
from prefopt.data.sources.files import ImageFiles, TableFiles
from prefopt.data.sources.rankings import ranking_votes
from prefopt.data.storage import Storage


class Hpdv2:
    """Reads the JSON files of HPDv2; images are files under `images`."""

    def __init__(self, config: Hpdv2Source) -> None:
        self._tables = TableFiles(config.path, (".json",), [], [])
        self._images = ImageFiles(config.images)

    @property
    def root(self) -> Storage:
        return self._tables.root

    def files(self) -> list[str]:
        return self._tables.names()

    def plan(self, unit_rows: int) -> list[dict[str, Any]]:
        return self._tables.plan(unit_rows)

    def rows(self, unit: dict[str, Any], prompts_only: bool = False) -> Iterator[tuple[str, int, dict[str, Any]]]:
        return self._tables.rows(unit)

    def prompt(self, row: dict[str, Any]) -> Any:
        return row.get("prompt")

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        paths = row.get("file_path") or row.get("image_path")
        if not isinstance(paths, list):
            raise BadRowError("missing_field", "file_path (train) or image_path (test) must be a list")
        images = [ImageCell(path=self._images.relative(path)) for path in paths]
        return ParsedRow(prompt=row.get("prompt"), images=images, votes=self._votes(row, len(images)))

    def _votes(self, row: dict[str, Any], images: int) -> list[RawVote]:
        if "human_preference" in row:
            choice = require(row, "human_preference")
            if not isinstance(choice, list):
                raise BadRowError("bad_label", "human_preference must be a list of 0 and 1")
            return ranking_votes([-value if isinstance(value, int | float) else None for value in choice], images, "")
        annotations = require(row, "raw_annotations")
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise BadRowError("bad_label", "raw_annotations must be a list of objects with rank and user_hash")
        return [
            vote
            for annotation in annotations
            for vote in ranking_votes(annotation.get("rank"), images, text(annotation.get("user_hash")))
        ]

    def image_bytes(self, file: str, limit: int) -> bytes:
        return self._images.read(file, limit)
