"""Work units of ingest: scan rows into canonical votes, merge images, merge pairs and votes."""

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.ingest import IngestConfig
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.canonical import TEST, CheckedImage, canonical_row, check_prompt
from prefopt.data.ids import canonical_hash, prompt_place
from prefopt.data.schema import IMAGES, PAIRS, QUARANTINE, VOTES
from prefopt.data.sources import Source, open_source
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow
from prefopt.data.storage import Storage

_ORDER = pa.schema([("source", pa.int32()), ("source_file", pa.string()), ("source_row", pa.int64())])
_SCANNED = pa.schema(
    [
        *[field for field in VOTES if field.name != "latest"],
        *[PAIRS.field(name) for name in ("prompt", "image_0", "image_1", "split", "category")],
        *_ORDER,
    ]
)
_SEEN = IMAGES.append(pa.field("split", pa.string()))
_ROW_GROUP = 4096
_RECEIPT, _KINDS = "receipt.json", ("votes", "images", "refused")
SCAN_VERSION = 1
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

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, kept = payload["name"], self.store.child(f"scanned/{self._key(payload)}")
        reused = kept.exists(_RECEIPT)
        if not reused:
            self._scan(payload, kept)
        for kind in _KINDS:
            self.work.write_bytes(f"{kind}/{name}.parquet", kept.read_bytes(f"{kind}.parquet"))
        return {**json.loads(kept.read_bytes(_RECEIPT)), "reused": reused}

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
                "config": self.config.model_dump(mode="json", exclude={"sources", "unit_rows"}),
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
        votes = pa.Table.from_pylist(scan.votes, schema=_SCANNED).sort_by([("pair_id", "ascending")])
        images = pa.Table.from_pylist(list(scan.images.values()), schema=_SEEN).sort_by([("image_id", "ascending")])
        kept.write_table("votes.parquet", votes, row_group_size=_ROW_GROUP)
        kept.write_table("images.parquet", images, row_group_size=_ROW_GROUP)
        kept.write_table("refused.parquet", pa.Table.from_pylist(scan.refused, schema=QUARANTINE))
        refused = sum(row["votes"] for row in scan.refused)
        receipt = {"votes": len(scan.votes), "refused": refused, "images": len(scan.images), "rows": rows}
        kept.write_bytes(_RECEIPT, json.dumps(receipt).encode())

    def _left_out(self, source: Source, row: dict[str, Any]) -> bool:
        if self.last_place is None:
            return False
        try:
            return prompt_place(check_prompt(source.prompt(row), self.config.limits)) > self.last_place
        except BadRowError:
            return True


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


@dataclass(frozen=True)
class MergeImages:
    """One row per unique image of an id range; notes the images that several splits use."""

    work: Storage
    output: Storage

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        seen = _read_range(self.work, "images", "image_id", payload["range"], _SEEN)
        order = ["image_id", "source", "file", "row", "column", "split"]
        rows = seen.sort_by([(name, "ascending") for name in order]).to_pylist()
        images: list[dict[str, Any]] = []
        shared = []
        splits: set[str] = set()
        for row in rows:
            split = row.pop("split")
            if not images or images[-1]["image_id"] != row["image_id"]:
                images.append(row)
                splits = {split}
            elif split not in splits:
                splits.add(split)
                shared.append(row["image_id"])
        self.output.write_table(payload["file"], pa.Table.from_pylist(images, schema=IMAGES))
        return {"images": len(images), "shared": sorted(set(shared))}


def spread_to_test(work: Storage, shared: set[str]) -> set[str]:
    """All images that belong to test because a chain of pairs ties them to an image that several splits use."""
    moved = set(shared)
    grown = bool(moved)
    while grown:
        grown = False
        for name in work.files("votes"):
            table = work.read_table(name, columns=["image_0", "image_1", "split"])
            table = table.filter(pc.not_equal(table["split"], TEST))
            for first, second in zip(table["image_0"].to_pylist(), table["image_1"].to_pylist(), strict=True):
                if (first in moved) != (second in moved):
                    moved |= {first, second}
                    grown = True
    return moved


@dataclass(frozen=True)
class MergePairs:
    """One row per pair and per vote of an id range; votes that were delivered twice are set aside."""

    work: Storage
    output: Storage

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        scanned = _read_range(self.work, "votes", "pair_id", payload["range"], _SCANNED)
        rows = sorted(scanned.to_pylist(), key=_arrival)
        moved = set(self.work.read_table("moved.parquet")["image_id"].to_pylist())
        kept = {row["vote_id"]: row for row in rows}
        twice = [row for row in rows if kept[row["vote_id"]] is not row]
        votes = list(kept.values())
        pairs = {row["pair_id"]: _pair(row, moved) for row in reversed(rows)}
        latest = {_voter(row): row for row in rows}
        for row in votes:
            row["latest"] = latest[_voter(row)]["vote_id"] == row["vote_id"]
        contradicted = sum(latest[_voter(row)]["label"] != row["label"] for row in votes)
        votes.sort(key=lambda row: (row["pair_id"], row["vote_id"]))
        pair_rows = [pairs[key] for key in sorted(pairs)]
        self.output.write_table(payload["pairs"], pa.Table.from_pylist(pair_rows, schema=PAIRS))
        self.output.write_table(payload["votes"], pa.Table.from_pylist(votes, schema=VOTES))
        self.work.write_table(
            f"refused/{payload['name']}.parquet",
            pa.Table.from_pylist([_twice(row) for row in twice], schema=QUARANTINE),
        )
        return {
            "pairs": len(pairs),
            "votes": len(votes),
            "twice": len(twice),
            "contradicted": contradicted,
            "moved": sum(row["split"] != first for row, first in _first_splits(pair_rows, rows)),
            "in_several_sources": _in_several_sources(rows),
        }


def _in_several_sources(rows: list[dict[str, Any]]) -> int:
    """How many pairs more than one source holds."""
    found = Counter(pair for pair, _ in {(row["pair_id"], row["source"]) for row in rows})
    return sum(sources > 1 for sources in found.values())


def _first_splits(pairs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], str]]:
    split = {row["pair_id"]: row["split"] for row in rows}
    return [(pair, split[pair["pair_id"]]) for pair in pairs]


def _pair(row: dict[str, Any], moved: set[str]) -> dict[str, Any]:
    pair = {name: row[name] for name in PAIRS.names}
    if row["image_0"] in moved or row["image_1"] in moved:
        pair["split"] = TEST
    return pair


def _arrival(row: dict[str, Any]) -> tuple[Any, ...]:
    """The order in which votes count: by pair and time (numbers as numbers), then as they lie in the sources."""
    time = row["time"]
    try:
        moment: tuple[Any, ...] = (0, float(time or "-inf"), "")
    except ValueError:
        moment = (1, 0.0, time)
    return (row["pair_id"], *moment, *(row[name] for name in _ORDER.names), row["vote_id"])


def _voter(row: dict[str, Any]) -> tuple[str, str]:
    return row["pair_id"], row["annotator"] or f"anonymous {row['vote_id']}"


def _twice(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "source_file": row["source_file"],
        "source_row": row["source_row"],
        "votes": 1,
        "reason": "duplicate_vote",
        "detail": f"vote {row['vote_id']} was delivered again",
    }


def _read_range(work: Storage, kind: str, key: str, bounds: list[str], schema: pa.Schema) -> pa.Table:
    low, high = bounds
    tables = [work.read_table(name, filters=[(key, ">=", low), (key, "<", high)]) for name in work.files(kind)]
    return pa.concat_tables(tables) if tables else schema.empty_table()
