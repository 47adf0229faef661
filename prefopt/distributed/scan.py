"""Work units of ingest that read sources: the first prompts, and rows checked and turned into canonical votes."""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.ingest import IngestConfig
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.canonical import CheckedImage, canonical_row, check_prompt
from prefopt.data.ids import canonical_hash, prompt_place
from prefopt.data.schema import IMAGES, PAIRS, QUARANTINE, VOTES
from prefopt.data.sources import Source, open_source
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import NOTHING, Withdrawn, annotator_id

ORDER = pa.schema([("source", pa.int32()), ("source_file", pa.string()), ("source_row", pa.int64())])
SCANNED = pa.schema(
    [
        *[field for field in VOTES if field.name != "latest"],
        *[PAIRS.field(name) for name in ("prompt", "image_0", "image_1", "split", "category")],
        *ORDER,
    ]
)
_WITHDRAWN = pa.schema(
    [
        *[field for field in ORDER if field.name != "source"],
        *[PAIRS.field(name) for name in ("pair_id", "image_0", "image_1")],
        ("annotator_id", pa.string()),
    ]
)
"""What is left of a vote that was withdrawn when its row was read: where it lies, and ids."""
SEEN = IMAGES.append(pa.field("split", pa.string()))
_ROW_GROUP = 4096
SCANS, RECEIPT = "scanned", "receipt.json"
"""Where the store keeps what a unit gave, and the file of it that is written last."""
SCAN_VERSION = 2
"""Raised by hand when the same rows give other tables."""


@dataclass(frozen=True)
class SourceDigest:
    """What a source's rows depend on."""

    files: dict[str, str]
    """sha256 of each table file."""
    images: str | None
    """Of all image files that rows may point to; None where rows hold their images."""

    @classmethod
    def of(cls, source: SourceConfig, digests: Sequence[Sequence[Any]]) -> "SourceDigest":
        """From name, bytes and sha256 of every file of the source."""
        tables = set(open_source(source).files())
        images = [[name, sha256] for name, _, sha256 in digests if name not in tables]
        files = {name: sha256 for name, _, sha256 in digests if name in tables}
        return cls(files, canonical_hash(images) if images else None)


@dataclass(frozen=True)
class FirstPrompts:
    """Finds the smallest prompt places of a unit, so that `limit` means the same prompts everywhere."""

    sources: tuple[SourceConfig, ...]
    limit: int
    config: IngestConfig

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        source = open_source(self.sources[payload["source"]])
        places = set()
        for _, _, row in source.rows(payload["unit"], prompts_only=True):
            try:
                places.add(prompt_place(check_prompt(source.prompt(row), self.config.limits)))
            except BadRowError:
                continue
            if len(places) > 4 * self.limit:
                places = set(heapq.nsmallest(self.limit, places))
        return {"places": heapq.nsmallest(self.limit, places)}


@dataclass(frozen=True)
class ScanRows:
    """Checks the rows of a unit and writes its votes, images and refusals, sorted by id.

    What a unit gave is kept in the store by all that it depends on, the digest of its file among it: rows that an
    earlier run has read are not read again.
    """

    sources: tuple[SourceConfig, ...]
    digests: tuple[SourceDigest, ...]
    config: IngestConfig
    work: Storage
    store: Storage
    last_place: float | None
    """Rows whose prompt stands after this place are left out."""
    withdrawn: Withdrawn = NOTHING

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, kept = payload["name"], self.store.child(f"{SCANS}/{self._key(payload)}")
        reused = kept.exists(RECEIPT) and self._still_withdrawn(kept)
        if not reused:
            self._scan(payload, kept)
        read = {kind: kept.read_table(f"{kind}.parquet") for kind in ("votes", "images", "refused", "withdrawn")}
        used = without_withdrawn(read["votes"], read["images"], self.withdrawn)
        gone = pa.concat_tables([read["withdrawn"], used.withdrawn])
        refused = pa.concat_tables([read["refused"], _withdrawn_rows(gone, self.withdrawn)])
        for kind, table in (("votes", used.votes), ("images", used.images), ("refused", refused)):
            self.work.write_table(f"{kind}/{name}.parquet", table, row_group_size=_ROW_GROUP)
        return {
            "votes": used.votes.num_rows,
            "refused": pc.sum(refused["votes"]).as_py() or 0,
            "images": used.images.num_rows,
            "rows": json.loads(kept.read_bytes(RECEIPT))["rows"],
            "reused": reused,
        }

    def _still_withdrawn(self, kept: Storage) -> bool:
        """Whether all that was left out when the rows were read still has to be."""
        return all(self.withdrawn.why(row) for row in kept.read_table("withdrawn.parquet").to_pylist())

    def _key(self, payload: dict[str, Any]) -> str:
        index, unit = payload["source"], payload["unit"]
        return canonical_hash(
            {
                "version": SCAN_VERSION,
                "source": index,
                "map": self.sources[index].model_dump(mode="json", exclude={"path", "images"}),
                "unit": unit,
                "file": self.digests[index].files[unit["file"]],
                "images": self.digests[index].images,
                "config": self.config.model_dump(mode="json", exclude={"sources", "unit_rows", "withdrawn"}),
                "last_place": self.last_place,
            }
        )

    def _scan(self, payload: dict[str, Any], kept: Storage) -> None:
        index = payload["source"]
        source = open_source(self.sources[index])
        scan, rows = _Scan(index, self.config), 0
        for file, number, row in source.rows(payload["unit"]):
            rows += 1
            if not self._left_out(source, row):
                scan.add(source, file, number, row)
        votes = pa.Table.from_pylist(scan.votes, schema=SCANNED).sort_by([("pair_id", "ascending")])
        images = pa.Table.from_pylist(list(scan.images.values()), schema=SEEN).sort_by([("image_id", "ascending")])
        used = without_withdrawn(votes, images, self.withdrawn)
        kept.delete(RECEIPT)
        kept.write_table("votes.parquet", used.votes)
        kept.write_table("images.parquet", used.images)
        kept.write_table("withdrawn.parquet", used.withdrawn)
        kept.write_table("refused.parquet", pa.Table.from_pylist(scan.refused, schema=QUARANTINE))
        file = payload["unit"]["file"]
        receipt = {"rows": rows, "file": file, "sha256": self.digests[index].files[file]}
        kept.write_bytes(RECEIPT, json.dumps(receipt).encode())

    def _left_out(self, source: Source, row: dict[str, Any]) -> bool:
        if self.last_place is None:
            return False
        try:
            return prompt_place(check_prompt(source.prompt(row), self.config.limits)) > self.last_place
        except BadRowError:
            return True


class Used(NamedTuple):
    """A unit's tables, and what was taken out of them."""

    votes: pa.Table
    images: pa.Table
    withdrawn: pa.Table


def without_withdrawn(votes: pa.Table, images: pa.Table, withdrawn: Withdrawn) -> Used:
    """Votes that may be used, and the images that they are about."""
    hits = withdrawn.hits(votes)
    if not pc.any(hits).as_py():
        return Used(votes, images, _WITHDRAWN.empty_table())
    gone, votes = votes.filter(hits), votes.filter(pc.invert(hits))
    seen = {(row[side], row["split"]) for row in _sides(votes) for side in ("image_0", "image_1")}
    places = zip(images["image_id"].to_pylist(), images["split"].to_pylist(), strict=True)
    ids = [annotator_id(name) if name else "" for name in gone["annotator"].to_pylist()]
    left = gone.append_column("annotator_id", pa.array(ids, pa.string())).select(_WITHDRAWN.names)
    return Used(votes, images.filter(pa.array([place in seen for place in places], pa.bool_())), left)


def _sides(votes: pa.Table) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = votes.select(["image_0", "image_1", "split"]).to_pylist()
    return rows


def _withdrawn_rows(gone: pa.Table, withdrawn: Withdrawn) -> pa.Table:
    """Rows of the quarantine: where each vote lies and ids, and neither prompt nor name."""
    order = gone.sort_by([(name, "ascending") for name in ("source_row", "pair_id", "annotator_id")])
    rows = [
        {
            "source_file": row["source_file"],
            "source_row": row["source_row"],
            "votes": 1,
            "reason": "withdrawn",
            "detail": withdrawn.why(row),
        }
        for row in order.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)


class _Scan:
    """What a unit's rows gave so far."""

    def __init__(self, source: int, config: IngestConfig) -> None:
        self._source, self._config = source, config
        self.votes: list[dict[str, Any]] = []
        self.images: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: list[dict[str, Any]] = []

    def add(self, source: Source, file: str, number: int, row: dict[str, Any]) -> None:
        def load(cell: ImageCell) -> bytes:
            return (
                cell.data if cell.data is not None else source.image_bytes(cell.path, self._config.limits.image_bytes)
            )

        try:
            parsed = source.parse(row)
            images, votes = canonical_row(parsed, self._config, load, where=f"{self._source}/{file}/{number}")
        except BadRowError as error:
            self._refuse(file, number, error)
            return
        place = {"source": self._source, "source_file": file, "source_row": number}
        used: set[str] = set()
        for vote in votes:
            if isinstance(vote, BadRowError):
                self._refuse(file, number, vote)
            else:
                self.votes.append({**vote, **place})
                used |= {vote["image_0"], vote["image_1"]}
        self._add_images(parsed, images, used, file, number)

    def _add_images(
        self, parsed: ParsedRow, images: list[CheckedImage | BadRowError], used: set[str], file: str, number: int
    ) -> None:
        split = self.votes[-1]["split"] if used else ""
        for cell, image in zip(parsed.images, images, strict=True):
            if isinstance(image, CheckedImage) and image.image_id in used:
                in_table = cell.data is not None
                self.images.setdefault(
                    (image.image_id, split),
                    {
                        "image_id": image.image_id,
                        "source": self._source,
                        "file": file if in_table else cell.path,
                        "row": number if in_table else -1,
                        "column": cell.column if in_table else "",
                        "width": image.width,
                        "height": image.height,
                        "bytes": image.bytes,
                        "split": split,
                    },
                )

    def _refuse(self, file: str, number: int, error: BadRowError) -> None:
        self.refused.append(
            {
                "source_file": file,
                "source_row": number,
                "votes": error.votes,
                "reason": error.reason,
                "detail": error.detail[:300],
            }
        )
