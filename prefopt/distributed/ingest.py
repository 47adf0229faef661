"""Work units of ingest that follow the reading: merge images, merge pairs and votes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.canonical import TEST
from prefopt.data.schema import IMAGES, PAIRS, QUARANTINE, VOTES
from prefopt.data.storage import Storage
from prefopt.distributed.scan import ORDER, SCANNED, SEEN


@dataclass(frozen=True)
class MergeImages:
    """One row per unique image of an id range; notes the images that several splits use."""

    work: Storage
    output: Storage

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        seen = _read_range(self.work, "images", "image_id", payload["range"], SEEN)
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
        scanned = _read_range(self.work, "votes", "pair_id", payload["range"], SCANNED)
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
    return (row["pair_id"], *moment, *(row[name] for name in ORDER.names), row["vote_id"])


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
