"""inject: seeded label noise, its truth kept in a table that training never reads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config.inject import GapFlips
from prefopt.data.manifest import Rows
from prefopt.data.noise import boundary_bin, flips_wanted, threshold
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.inject import ALL, BoundaryVotes, CountVotes, WriteLabels, stratum_rates
from prefopt.distributed.units import Unit, UnitWorker, run_units
from prefopt.errors import InputError
from prefopt.stages.base import StageContext, StageResult, costly_rows


def run(context: StageContext) -> StageResult:
    """Write labels-*.parquet (votes after noise) and truth-*.parquet (which were flipped), one per votes shard."""
    config, ingest = context.config.inject, context.parents["ingest"]
    work = context.output.child("work")
    shards = [
        {
            "votes": votes,
            "pairs": votes.replace("votes-", "pairs-"),
            "labels": votes.replace("votes-", "labels-"),
            "truth": votes.replace("votes-", "truth-"),
            "gaps": votes.replace("votes-", "gaps-"),
        }
        for votes in ingest.manifest.files_like("votes-")
    ]

    def units(name: str, worker: Callable[[], UnitWorker], **extra: Any) -> list[dict[str, Any]]:
        return run_units(
            [Unit(shard["votes"], {**shard, **extra}) for shard in shards],
            worker,
            receipts=work.child(f"receipts/{name}"),
            cluster=context.config.cluster,
            progress=context.progress,
            what=name,
        )

    thresholds: list[dict[str, float]] = []
    for entry, flips in enumerate(config.flips):
        if isinstance(flips, GapFlips):
            thresholds.append({})
            continue
        counts = _sum(units(f"count-{entry}", partial(CountVotes, ingest.storage, config), entry=entry))
        unknown = sorted(set(stratum_rates(flips)) - set(counts) - {ALL})
        if unknown:
            raise InputError(
                f"inject.flips.{entry} names the annotator group {', '.join(unknown)}, but no vote of the splits"
                f" {', '.join(config.splits)} belongs to it. Groups there: {', '.join(sorted(counts)) or 'none'}."
            )
        wanted = {name: n for name, n in flips_wanted(counts, stratum_rates(flips)).items() if n}
        bounds = {name: boundary_bin(counts[name], flips_) for name, flips_ in wanted.items()}
        bins = {name: bin_ for name, (bin_, _) in bounds.items()}
        found = units(f"boundary-{entry}", partial(BoundaryVotes, ingest.storage, config), entry=entry, bins=bins)
        places = {name: [place for receipt in found for place in receipt.get(name, [])] for name in bins}
        thresholds.append({name: threshold(places[name], inside) for name, (_, inside) in bounds.items()})
    gaps = _write_gaps(context, shards, work) if any(flips.kind == "gap" for flips in config.flips) else None
    worker = partial(WriteLabels, ingest.storage, config, context.output, thresholds, gaps)
    written = units("labels", worker)
    votes = sum(receipt["votes"] for receipt in written)
    return StageResult(
        rows=Rows(in_=ingest.manifest.rows.out, out=votes),
        files=[shard[kind] for shard in shards for kind in ("labels", "truth")],
        summary={name: sum(receipt[name] for receipt in written) for name in ("eligible", "flipped")},
    )


def _sum(receipts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for receipt in receipts:
        for name, counts in receipt.items():
            total[name] = total.get(name, np.zeros(len(counts), dtype=np.int64)) + np.asarray(counts)
    return total


def _write_gaps(context: StageContext, shards: list[dict[str, str]], work: Storage) -> Storage:
    """Reward gaps by pair, one file per shard, from the reward stores."""
    entries = {entry: flips.reward for entry, flips in enumerate(context.config.inject.flips) if flips.kind == "gap"}
    ingest, names, costly = context.parents["ingest"], tuple(entries.values()), costly_rows(context)
    pairs = [ingest.storage.read_table(shard["pairs"]) for shard in shards]
    costly.fill_images(read_tables(ingest, "images-"), pa.concat_tables(pairs), names, {})
    for shard, table in zip(shards, pairs, strict=True):
        scores = costly.reward_scores(table, names)
        gaps = {f"gap_{entry}": np.subtract(*scores[reward], dtype=np.float64) for entry, reward in entries.items()}
        work.write_table(shard["gaps"], pa.table({"pair_id": table["pair_id"], **gaps}))
    return work
