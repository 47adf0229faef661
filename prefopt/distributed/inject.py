"""Work units of inject: count eligible votes, find thresholds, write labels and truth."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.inject import Flips, GapFlips, GroupFlips, InjectConfig, SymmetricFlips
from prefopt.data.ids import row_uniform
from prefopt.data.labels import TIE
from prefopt.data.noise import BINS, flip_place, gap_flip_probability, histogram
from prefopt.data.schema import LABELS, TRUTH
from prefopt.data.storage import Storage

ALL = "all"


def stratum(flips: Flips, vote: dict[str, Any]) -> str | None:
    """The group of votes of which an exact share is flipped; None if this entry leaves the vote alone."""
    if isinstance(flips, SymmetricFlips):
        return ALL
    if isinstance(flips, GroupFlips):
        return vote["group"] if vote["group"] in flips.rates else None
    return None


def stratum_rates(flips: SymmetricFlips | GroupFlips) -> dict[str, float]:
    """The exact share of each stratum."""
    return {ALL: flips.rate} if isinstance(flips, SymmetricFlips) else dict(flips.rates)


@dataclass(frozen=True)
class _Shard:
    """Reads the votes of a shard together with their pairs' splits."""

    ingest: Storage
    config: InjectConfig

    def read(self, payload: dict[str, Any]) -> tuple[list[dict[str, Any]], list[bool]]:
        votes = self.ingest.read_table(payload["votes"]).to_pylist()
        pairs = self.ingest.read_table(payload["pairs"], columns=["pair_id", "split"])
        chosen = pairs.filter(pc.is_in(pairs["split"], pa.array(self.config.splits)))
        inside = set(chosen["pair_id"].to_pylist())
        return votes, [vote["pair_id"] in inside and vote["label"] != TIE for vote in votes]

    def places(self, payload: dict[str, Any], entry: int) -> dict[str, list[float]]:
        votes, eligible = self.read(payload)
        flips = self.config.flips[entry]
        found: dict[str, list[float]] = {}
        for vote, may in zip(votes, eligible, strict=True):
            name = stratum(flips, vote) if may else None
            if name is not None:
                found.setdefault(name, []).append(flip_place(self.config.seed, entry, vote["vote_id"]))
        return found


@dataclass(frozen=True)
class CountVotes(_Shard):
    """Counts the eligible votes of a shard by stratum and place."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {name: histogram(places) for name, places in self.places(payload, payload["entry"]).items()}


@dataclass(frozen=True)
class BoundaryVotes(_Shard):
    """Gives the places that lie in each stratum's boundary bin."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {
            name: [place for place in places if int(place * BINS) == payload["bins"].get(name)]
            for name, places in self.places(payload, payload["entry"]).items()
        }


@dataclass(frozen=True)
class WriteLabels(_Shard):
    """Flips the votes of a shard; writes labels for training and the truth beside them."""

    output: Storage
    thresholds: list[dict[str, float]]
    """Per entry and stratum, the largest place that is flipped."""
    gaps: Storage | None
    """Reward gaps by pair for each gap entry, where there is one."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        votes, eligible = self.read(payload)
        gaps = self._gaps(payload)
        truth = []
        for vote, may in zip(votes, eligible, strict=True):
            hits = [may and self._flips(entry, vote, gaps) for entry in range(len(self.config.flips))]
            flipped = sum(hits) % 2 == 1
            if flipped:
                vote["label"] = 1.0 - vote["label"]
            vote["flipped_by"] = "+".join(flips.kind for flips in self.config.flips) if may else ""
            truth.append({"vote_id": vote["vote_id"], "flipped": flipped, "group": vote["group"]})
        self.output.write_table(payload["labels"], pa.Table.from_pylist(votes, schema=LABELS))
        self.output.write_table(payload["truth"], pa.Table.from_pylist(truth, schema=TRUTH))
        return {"votes": len(votes), "flipped": sum(row["flipped"] for row in truth), "eligible": sum(eligible)}

    def _gaps(self, payload: dict[str, Any]) -> dict[int, dict[str, float]]:
        entries = [entry for entry, flips in enumerate(self.config.flips) if flips.kind == "gap"]
        if not entries or self.gaps is None:
            return {}
        table = self.gaps.read_table(payload["gaps"])
        pairs = table["pair_id"].to_pylist()
        return {entry: dict(zip(pairs, table[f"gap_{entry}"].to_pylist(), strict=True)) for entry in entries}

    def _flips(self, entry: int, vote: dict[str, Any], gaps: dict[int, dict[str, float]]) -> bool:
        flips, seed = self.config.flips[entry], self.config.seed
        if isinstance(flips, GapFlips):
            chance = gap_flip_probability(gaps[entry][vote["pair_id"]], flips.rate, flips.scale)
            return row_uniform(seed, f"gap {entry}", vote["vote_id"]) < chance
        name = stratum(flips, vote)
        limit = self.thresholds[entry].get(name) if name is not None else None
        return limit is not None and flip_place(seed, entry, vote["vote_id"]) <= limit
