"""HPDv2: train.json holds one choice per entry, test.json several annotators' rankings per prompt."""

from typing import Any

from prefopt.config.ingest import Hpdv2Source
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, require, text
from prefopt.data.sources.files import ImageFiles, TableFiles, TableReader
from prefopt.data.sources.rankings import ranking_votes


class Hpdv2(TableReader):
    """Reads the JSON files of HPDv2; images are files under `images`."""

    def __init__(self, config: Hpdv2Source) -> None:
        super().__init__(TableFiles(config.path, (".json",), [], []), "prompt", ImageFiles(config.images))

    def parse(self, row: dict[str, Any]) -> ParsedRow:
        paths = row.get("file_path") or row.get("image_path")
        if not isinstance(paths, list):
            raise BadRowError("missing_field", "file_path (train) or image_path (test) must be a list")
        images = [ImageCell(path=self._images.relative(path)) for path in paths]
        return ParsedRow(prompt=self.prompt(row), images=images, votes=self._votes(row, len(images)))

    def _votes(self, row: dict[str, Any], images: int) -> list[RawVote]:
        if "human_preference" in row:
            choice = require(row, "human_preference")
            if not isinstance(choice, list):
                raise BadRowError("bad_label", "human_preference must be a list of 0 and 1")
            ranks = [-value if isinstance(value, int | float) else None for value in choice]
            return ranking_votes(ranks, images, text(row.get("user_hash")))
        annotations = require(row, "raw_annotations")
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise BadRowError("bad_label", "raw_annotations must be a list of objects with rank and user_hash")
        return [
            vote
            for annotation in annotations
            for vote in ranking_votes(annotation.get("rank"), images, text(annotation.get("user_hash")))
        ]
