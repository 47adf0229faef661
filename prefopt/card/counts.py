"""What the preference data hold, counted shard by shard. Pixels are never read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from prefopt.card.hashes import Hashes, id_hashes, text_hashes
from prefopt.data.labels import TIE
from prefopt.data.schema import QUARANTINE_REASONS
from prefopt.data.tables import Finished

SPLITS = ("train", "validation", "test")


@dataclass
class Counts:
    """Counts over the tables of ingest and inject."""

    pairs: int = 0
    votes: int = 0
    ties: int = 0
    soft: int = 0
    """Labels strictly between 0 and 1 that are no ties."""
    superseded: int = 0
    """Votes that a later vote of the same annotator on the same pair replaces."""
    pairs_with_several_votes: int = 0
    pairs_with_disagreement: int = 0
    """Pairs on which the votes that count name different winners."""
    annotators_who_changed: int = 0
    """(annotator, pair) whose votes name different winners."""
    anonymous: int = 0
    images: int = 0
    image_bytes: int = 0
    smallest_side: int | None = None
    largest_side: int | None = None
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per split: pairs, votes, prompts."""
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per annotator group: votes, flipped."""
    annotators: int = 0
    """That have an id."""
    votes_per_annotator: dict[str, float] | None = None
    pairs_per_image: dict[str, float] | None = None
    quarantine: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per reason: rows, votes."""
    duplicates: int = 0
    """Votes that were delivered again and set aside."""
    in_several_sources: int = 0
    """Pairs that several sources hold."""
    moved_to_test: int = 0
    """Pairs moved to test because another split shares an image with it."""
    eligible: int = 0
    flipped: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(self.__dict__)


def count_data(ingest: Finished, inject: Finished) -> tuple[Counts, Counter[str]]:
    """Count votes, pairs, contradictions, quarantine and flips, and the votes of each annotator who has an id.

    One shard is in memory at a time; of images and prompts only hashes are kept.
    """
    card, people = Counts(), Counter[str]()
    prompts: dict[str, list[Hashes]] = {split: [] for split in SPLITS}
    uses: list[Hashes] = []
    for votes_file in ingest.manifest.files_like("votes-"):
        pairs = ingest.storage.read_table(votes_file.replace("votes-", "pairs-"))
        votes = ingest.storage.read_table(votes_file)
        _count_pairs(card, pairs, prompts, uses)
        _count_votes(card, votes, pairs, people)
    for name, found in prompts.items():
        card.splits.setdefault(name, Counter())["prompts"] = len(np.unique(np.concatenate(found))) if found else 0
    card.splits = {name: dict(card.splits[name]) for name in SPLITS}
    card.annotators = len(people)
    card.votes_per_annotator = spread(list(people.values()))
    card.pairs_per_image = spread(np.unique(np.concatenate(uses), return_counts=True)[1]) if uses else None
    _count_images(card, ingest)
    _count_quarantine(card, ingest)
    _count_flips(card, inject)
    return card, people


def _count_pairs(card: Counts, pairs: pa.Table, prompts: dict[str, list[Hashes]], uses: list[Hashes]) -> None:
    card.pairs += pairs.num_rows
    for name in SPLITS:
        chosen = pairs.filter(pc.equal(pairs["split"], name))
        card.splits.setdefault(name, Counter())["pairs"] += chosen.num_rows
        prompts[name].append(text_hashes(chosen["prompt"].unique().to_pylist()))
    uses += [id_hashes(pairs[column]) for column in ("image_0", "image_1")]


def _count_votes(card: Counts, votes: pa.Table, pairs: pa.Table, people: Counter[str]) -> None:
    label = votes["label"].to_numpy()
    latest = np.asarray(votes["latest"].to_numpy(zero_copy_only=False), dtype=bool)
    card.votes += len(label)
    card.ties += int((label == TIE).sum())
    card.soft += int(((label > 0) & (label < 1) & (label != TIE)).sum())
    card.superseded += int((~latest).sum())
    splits = votes.select(["pair_id"]).join(pairs.select(["pair_id", "split"]), "pair_id", use_threads=False)
    for name, count in _counts(splits["split"]).items():
        card.splits.setdefault(name, Counter())["votes"] += count
    for name, count in _counts(votes["group"]).items():
        card.groups.setdefault(name, {"votes": 0, "flipped": 0})["votes"] += count
    named = {name: count for name, count in _counts(votes["annotator"]).items() if name}
    card.anonymous += len(label) - sum(named.values())
    people.update(named)
    sides = votes.append_column("side", pa.array(np.sign(label - TIE).astype(np.int64)))
    sides = sides.filter(pc.not_equal(sides["side"], 0))
    card.pairs_with_several_votes += sum(
        count > 1 for count in _counts(votes.filter(votes["latest"])["pair_id"]).values()
    )
    card.pairs_with_disagreement += _contradictions(sides.filter(sides["latest"]), ["pair_id"])
    card.annotators_who_changed += _contradictions(
        sides.filter(pc.not_equal(pc.fill_null(sides["annotator"], ""), "")), ["pair_id", "annotator"]
    )


def _contradictions(votes: pa.Table, keys: list[str]) -> int:
    """How many groups of votes name both winners."""
    found = votes.group_by(keys, use_threads=False).aggregate([("side", "count_distinct")])
    return int((found["side_count_distinct"].to_numpy() > 1).sum())


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"] or "": entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def spread(counts: ArrayLike) -> dict[str, float] | None:
    """Least, median, mean and most; None for no counts."""
    values = np.asarray(counts, dtype=np.float64)
    if not values.size:
        return None
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "most": float(values.max()),
    }


def _count_images(card: Counts, ingest: Finished) -> None:
    for file in ingest.manifest.files_like("images-"):
        images = ingest.storage.read_table(file, ["width", "height", "bytes"])
        if not images.num_rows:
            continue
        card.images += images.num_rows
        card.image_bytes += pc.sum(images["bytes"]).as_py()
        sides = [pc.min_max(images[name]).as_py() for name in ("width", "height")]
        least, most = min(side["min"] for side in sides), max(side["max"] for side in sides)
        card.smallest_side = least if card.smallest_side is None else min(card.smallest_side, least)
        card.largest_side = most if card.largest_side is None else max(card.largest_side, most)


def _count_quarantine(card: Counts, ingest: Finished) -> None:
    found: dict[str, dict[str, int]] = {}
    for file in ingest.manifest.files_like("quarantine"):
        table = ingest.storage.read_table(file, ["reason", "votes"])
        for row in (
            table.group_by("reason", use_threads=False).aggregate([("votes", "sum"), ("votes", "count")]).to_pylist()
        ):
            entry = found.setdefault(row["reason"], {"rows": 0, "votes": 0})
            entry["rows"] += row["votes_count"]
            entry["votes"] += row["votes_sum"]
    card.quarantine = {reason: found[reason] for reason in QUARANTINE_REASONS if reason in found}
    card.duplicates = card.quarantine.get("duplicate_vote", {}).get("votes", 0)
    card.in_several_sources = int(ingest.manifest.summary.get("pairs_in_several_sources") or 0)
    card.moved_to_test = int(ingest.manifest.summary.get("pairs_moved_to_test") or 0)


def _count_flips(card: Counts, inject: Finished) -> None:
    for file in inject.manifest.files_like("truth-"):
        table = inject.storage.read_table(file, ["flipped", "group"])
        flipped = table.filter(table["flipped"])
        card.flipped += flipped.num_rows
        for name, count in _counts(flipped["group"]).items():
            card.groups.setdefault(name, {"votes": 0, "flipped": 0})["flipped"] += count
    card.eligible = int(inject.manifest.summary.get("eligible") or 0)
    card.groups = dict(sorted(card.groups.items()))
