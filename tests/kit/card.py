"""Shards and finished stages for the data card, from pairs written by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.card.shards import Shard
from prefopt.card.survey import Survey, survey
from prefopt.config.card import CardConfig
from prefopt.data.ids import digest
from prefopt.data.schema import IMAGES, LABELS, PAIRS, QUARANTINE, SCORES, TRUTH, VOTES
from prefopt.stages.base import StageOutput
from tests.kit.stages import finished

Row = dict[str, Any]
_SCHEMAS = {"votes": VOTES, "labels": LABELS, "truth": TRUTH, "pairs": PAIRS, "scores": SCORES}


@dataclass(frozen=True)
class Vote:
    """A judgement. label = P(image_0 wins), as delivered."""

    annotator: str = ""
    label: float = 1.0
    time: str = ""
    first: int | None = None
    latest: bool = True
    flipped: bool = False


@dataclass(frozen=True)
class Pair:
    """A pair of two images, which are its own unless they are given by number."""

    votes: Sequence[Vote] = (Vote("ann"),)
    prompt: str = "a cat"
    split: str = "train"
    images: tuple[int, int] | None = None
    category: str = ""
    u: float | None = None
    stability: float | None = None
    margins: Sequence[float | None] | None = None


def image(number: int) -> str:
    """The id of an image that only has a number."""
    return digest("image", str(number))


def pair_ids(count: int) -> list[str]:
    """The ids of so many pairs, in order."""
    return sorted(digest("pair", str(index)) for index in range(count))


def make_shards(pairs: Sequence[Pair], *, cut: int = 1) -> list[Shard]:
    """These pairs, in this order, as shards in memory."""
    return [_shard({kind: _table(kind, some) for kind in _SCHEMAS}) for some in _cut(pairs, cut)]


def make_shard(pairs: Sequence[Pair]) -> Shard:
    """These pairs as one shard."""
    (shard,) = make_shards(pairs)
    return shard


def parents(
    directory: Path,
    pairs: Sequence[Pair],
    *,
    cut: int = 1,
    images: Sequence[Row] = (),
    refused: Sequence[tuple[str, int]] = (),
) -> dict[str, StageOutput]:
    """ingest, inject and score of these pairs as files, in shards. `refused`: reasons and numbers of votes."""
    some = _cut(pairs, cut)

    def tables(*kinds: str) -> dict[str, pa.Table]:
        return {f"{kind}-{at:05d}": _table(kind, rows) for kind in kinds for at, rows in enumerate(some)}

    quarantine = [
        {"source_file": "kit", "source_row": row, "votes": votes, "reason": reason, "detail": ""}
        for row, (reason, votes) in enumerate(refused)
    ]
    ingested = {
        **tables("votes", "pairs"),
        "images-00000": pa.Table.from_pylist(list(images), schema=IMAGES),
        "quarantine": pa.Table.from_pylist(quarantine, schema=QUARANTINE),
    }
    scores = pa.concat_tables([_table("scores", rows) for rows in some])
    votes = sum(len(pair.votes) for pair in pairs)
    return {
        "ingest": finished(directory / "ingest", "ingest", ingested, count=votes),
        "inject": finished(directory / "inject", "inject", tables("labels", "truth"), count=votes),
        "score": finished(directory / "score", "score", {"scores-00000": scores}),
    }


def _cut(pairs: Sequence[Pair], cut: int) -> list[list[Row]]:
    rows = [_rows(at, pair, name) for (at, pair), name in zip(enumerate(pairs), pair_ids(len(pairs)), strict=True)]
    step = max(1, -(-len(rows) // cut))
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _table(kind: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist([row for one in rows for row in one[kind]], schema=_SCHEMAS[kind])


def _shard(tables: dict[str, pa.Table]) -> Shard:
    return Shard(
        pairs=tables["pairs"],
        votes=tables["votes"],
        seen=tables["labels"]["label"].to_numpy(),
        flipped=np.asarray(tables["truth"]["flipped"].to_numpy(), dtype=bool),
        scores=tables["scores"],
    )


def _rows(index: int, pair: Pair, pair_id: str) -> Row:
    first, second = pair.images or (2 * index, 2 * index + 1)
    votes = [
        {
            "vote_id": digest("vote", pair_id, str(number)),
            "pair_id": pair_id,
            "annotator": vote.annotator,
            "group": "",
            "label": vote.label,
            "time": vote.time,
            "shown_first": vote.first,
            "latest": vote.latest,
        }
        for number, vote in enumerate(pair.votes)
    ]
    both = list(zip(votes, pair.votes, strict=True))
    return {
        "votes": votes,
        "labels": [{**row, "label": 1.0 - row["label"] if vote.flipped else row["label"]} for row, vote in both],
        "truth": [{"vote_id": row["vote_id"], "flipped": vote.flipped, "group": ""} for row, vote in both],
        "pairs": [
            {
                "pair_id": pair_id,
                "prompt": pair.prompt,
                "image_0": image(first),
                "image_1": image(second),
                "split": pair.split,
                "source_file": "kit.parquet",
                "source_row": index,
                "category": pair.category,
            }
        ],
        "scores": [{"pair_id": pair_id, "stability": pair.stability, "u": pair.u, "margins": pair.margins}],
    }


def surveyed(directory: Path, pairs: Sequence[Pair], *, cut: int = 1, config: CardConfig | None = None) -> Survey:
    """The survey of these pairs."""
    made = parents(directory, pairs, cut=cut)
    return survey(
        made["ingest"],
        made["inject"],
        made["score"],
        config or CardConfig(least_votes=1),
        lambda done, total, what: None,
    )


HOSTILE = '=cmd|"<script>alert(1)</script>", {{ 7 * 7 }}\n</style> & \N{RIGHT-TO-LEFT OVERRIDE}'


def varied_pairs(*, panel: bool = True) -> list[Pair]:
    """80 pairs with something of everything: several votes, ties, flips, categories, spellings, a hostile prompt."""
    pairs = []
    for at in range(80):
        votes = [Vote(f"person {at % 5}", float(at % 3 != 0), f"2024-01-{1 + at % 28:02d}", first=at % 2)]
        if at % 4 == 0:
            votes.append(Vote(f"person {(at + 1) % 5}", float(at % 8 != 0), f"2024-02-{1 + at % 28:02d}", first=0))
        if at % 10 == 5:
            votes.append(Vote("person 9", 0.5, first=1))
        votes[0] = replace(votes[0], flipped=at % 7 == 0)
        scores: Row = {"u": 0.1 + at % 9 / 12, "stability": 0.9, "margins": [1.0, float(at % 2) - 0.5, 0.3]}
        prompt = HOSTILE if at == 1 else ("A red Cat" if at % 16 == 0 else f"a {('red', 'blue')[at % 2]} cat {at % 6}")
        prompt = "a red cat!" if at % 16 == 8 else prompt
        split = "test" if at % 16 == 8 else "train"
        images = (0, 1) if at == 2 else None
        pairs.append(Pair(votes, prompt, split, images, ("", "art", HOSTILE)[at % 3], **(scores if panel else {})))
    return pairs
