"""ingest: preference data in any known format to canonical pairs, votes and images, split and checked."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.manifest import Rows
from prefopt.data.schema import QUARANTINE, SOURCES
from prefopt.data.sources import open_source
from prefopt.data.storage import Storage
from prefopt.distributed.ingest import MergeImages, MergePairs, spread_to_test
from prefopt.distributed.scan import FirstPrompts, ScanRows, SourceDigest
from prefopt.distributed.units import Unit, UnitWorker, run_units
from prefopt.errors import InputError
from prefopt.stages.base import StageContext, StageResult

SOURCE_FILES = "sources.parquet"
BUCKET_VOTES = 50_000
"""Votes per output shard, on average."""
_HEX = 1 << 32


def run(context: StageContext) -> StageResult:
    """Read every source, check every row, write pairs-*, votes-*, images-*.parquet, sources.parquet and
    quarantine.parquet."""
    config = context.config.ingest
    sources, work = context.sources, context.output.child("work")

    def units(name: str, todo: list[Unit], worker: Callable[[], UnitWorker]) -> list[dict[str, Any]]:
        return run_units(
            todo,
            worker,
            receipts=work.child(f"receipts/{name}"),
            cluster=context.config.cluster,
            progress=context.progress,
            what=name,
        )

    scan = _scan_units(sources, config.unit_rows)
    last_place = None
    if context.config.limit is not None:
        found = units("prompts", scan, partial(FirstPrompts, sources, context.config.limit, config))
        places = sorted({place for receipt in found for place in receipt["places"]})
        last_place = places[: context.config.limit][-1] if places else 0.0
    digests = tuple(map(SourceDigest.of, sources, context.source_digests))
    scan_rows = partial(ScanRows, sources, digests, config, work, context.store, last_place, context.withdrawn)
    scanned = units("rows", scan, scan_rows)
    _log_work(context, scanned)
    votes = sum(receipt["votes"] for receipt in scanned)
    refused = sum(receipt["refused"] for receipt in scanned)
    if votes == 0:
        raise InputError(_nothing_left(work, refused))

    buckets = -(-votes // BUCKET_VOTES)
    merged_images = units("images", _image_units(buckets), partial(MergeImages, work, context.output))
    shared = {image for receipt in merged_images for image in receipt["shared"]}
    _write_ids(work, "moved.parquet", spread_to_test(work, shared))
    merged = units("pairs", _pair_units(buckets), partial(MergePairs, work, context.output))
    reasons = _collect_quarantine(work, context.output)
    files_read = _source_table(context)
    context.output.write_table(SOURCE_FILES, files_read)

    twice = sum(receipt["twice"] for receipt in merged)
    files = [unit.payload["file"] for unit in _image_units(buckets)]
    files += [unit.payload[kind] for unit in _pair_units(buckets) for kind in ("pairs", "votes")]
    return StageResult(
        rows=Rows(in_=votes + refused, out=votes - twice, quarantined=refused + twice),
        files=[*files, SOURCE_FILES, "quarantine.parquet"],
        summary={
            "source_files": files_read.num_rows,
            "pairs": sum(receipt["pairs"] for receipt in merged),
            "images": sum(receipt["images"] for receipt in merged_images),
            "votes_contradicted": sum(receipt["contradicted"] for receipt in merged),
            "pairs_moved_to_test": sum(receipt["moved"] for receipt in merged),
            "pairs_in_several_sources": sum(receipt["in_several_sources"] for receipt in merged),
            **{f"quarantined_{reason}": count for reason, count in sorted(reasons.items())},
        },
    )


def _log_work(context: StageContext, scanned: list[dict[str, Any]]) -> None:
    """Rows that were read, and rows that an earlier run had read: no manifest holds what depends on the past."""
    rows = {"read": 0, "known": 0}
    for receipt in scanned:
        rows["known" if receipt["reused"] else "read"] += receipt["rows"]
    context.logs.write_bytes("rows.json", json.dumps(rows).encode())


def _source_table(context: StageContext) -> pa.Table:
    rows = [
        {"source": number, "kind": source.kind, "file": file, "bytes": size, "sha256": sha256}
        for number, (source, digests) in enumerate(zip(context.sources, context.source_digests, strict=True))
        for file, size, sha256 in digests
    ]
    return pa.Table.from_pylist(rows, schema=SOURCES)


def _scan_units(sources: tuple[SourceConfig, ...], unit_rows: int) -> list[Unit]:
    planned = [(index, unit) for index, config in enumerate(sources) for unit in open_source(config).plan(unit_rows)]
    names = [f"{number:05d}" for number in range(len(planned))]
    return [
        Unit(name, {"name": name, "source": index, "unit": unit})
        for name, (index, unit) in zip(names, planned, strict=True)
    ]


def _ranges(buckets: int) -> list[tuple[str, list[str]]]:
    """Names and id ranges of the output shards; "g" stands above every hex digit."""
    bounds = [f"{_HEX * bucket // buckets:08x}" for bucket in range(buckets)] + ["g"]
    return [(f"{bucket:05d}", bounds[bucket : bucket + 2]) for bucket in range(buckets)]


def _image_units(buckets: int) -> list[Unit]:
    return [Unit(name, {"range": ids, "file": f"images-{name}.parquet"}) for name, ids in _ranges(buckets)]


def _pair_units(buckets: int) -> list[Unit]:
    return [
        Unit(
            name,
            {
                "name": f"twice-{name}",
                "range": ids,
                "pairs": f"pairs-{name}.parquet",
                "votes": f"votes-{name}.parquet",
            },
        )
        for name, ids in _ranges(buckets)
    ]


def _write_ids(work: Storage, file: str, ids: set[str]) -> None:
    work.write_table(file, pa.table({"image_id": pa.array(sorted(ids), pa.string())}))


def _collect_quarantine(work: Storage, output: Storage) -> Counter[str]:
    reasons: Counter[str] = Counter()
    with output.open_output("quarantine.parquet") as stream, pq.ParquetWriter(stream, QUARANTINE) as writer:
        for name in work.files("refused"):
            table = work.read_table(name)
            writer.write_table(table)
            for reason, votes in zip(table["reason"].to_pylist(), table["votes"].to_pylist(), strict=True):
                reasons[reason] += votes
    return reasons


def _nothing_left(work: Storage, refused: int) -> str:
    if not refused:
        return "The sources hold no rows: there is nothing to ingest."
    examples = [row for name in work.files("refused") for row in work.read_table(name).slice(0, 3).to_pylist()][:3]
    shown = "; ".join(
        f"{row['source_file']} row {row['source_row']}: {row['reason']} ({row['detail']})" for row in examples
    )
    return f"All {refused} rows were refused, so there is nothing to align with. The first: {shown}."
