"""Preference tables of two sides, known and new, with what may differ between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.data.ids import digest, row_rng
from prefopt.data.schema import IMAGES, LABELS, PAIRS, SCORES
from tests.kit.stages import pair_row

Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """So many pairs of the training split, each of a prompt of its own with one vote."""

    pairs: int
    words: Sequence[str] = ("cat", "dog", "tree", "sea", "hill", "moon", "star", "boat")
    annotators: int = 20
    groups: Sequence[str] = ("one", "two")
    flipped: float = 0.0


@dataclass(frozen=True)
class Tables:
    """What the stages before drift write."""

    pairs: pa.Table
    labels: pa.Table
    scores: pa.Table
    images: pa.Table
    known: frozenset[str]

    def turned(self) -> "Tables":
        """The same rows in the opposite order."""
        parts = (self.pairs, self.labels, self.scores, self.images)
        return Tables(*(part.take(list(range(part.num_rows))[::-1]) for part in parts), self.known)


def make_tables(known: Side, new: Side, seed: int = 0) -> Tables:
    """Tables of both sides. Labels agree with alpha three times out of four, and u is higher where they do not."""
    rows = [_rows(side, at, start, seed) for side, at, start in ((known, 0, 0), (new, 1, known.pairs))]
    pairs, labels, scores = ([row for side in rows for row in side[kind]] for kind in (0, 1, 2))
    images = [{"image_id": row[side], "height": 32, "width": 32} for row in pairs for side in ("image_0", "image_1")]
    return Tables(
        pa.Table.from_pylist(pairs, schema=PAIRS),
        pa.Table.from_pylist(labels, schema=LABELS),
        pa.Table.from_pylist(scores, schema=SCORES),
        pa.Table.from_pylist(images, schema=IMAGES),
        frozenset(row["pair_id"] for row in rows[0][0]),
    )


def _rows(side: Side, at: int, start: int, seed: int) -> tuple[list[Row], list[Row], list[Row]]:
    rng = row_rng(seed, "drift kit", at)
    found: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for index in range(start, start + side.pairs):
        text = " ".join([*rng.choice(side.words, size=4), f"number{index}"])
        pair = {**pair_row(index, text, "train"), "category": ""}
        agrees = (rng.random() < 0.75) != (rng.random() < side.flipped)
        first, person = bool(rng.random() < 0.5), int(rng.integers(side.annotators))
        vote = {
            "vote_id": digest("vote", pair["pair_id"]),
            "pair_id": pair["pair_id"],
            "annotator": f"person {person}",
            "group": side.groups[person % len(side.groups)],
            "label": float(first == agrees),
            "time": "",
            "shown_first": None,
            "latest": True,
            "flipped_by": "",
        }
        against = 0.2 + 0.1 * float(rng.random())
        score = {
            "pair_id": pair["pair_id"],
            "alpha": 0.9 if first else 0.1,
            "stability": 1.0,
            "u": against if first else 1.0 - against,
            "panel_majority": float(first),
        }
        for rows, row in zip(found, (pair, vote, score), strict=True):
            rows.append(row)
    return found


def vectors(count: int, shift: float, seed: int) -> np.ndarray:
    """[count, 2, 16] places of images."""
    return row_rng(seed, "drift kit images", count).standard_normal((count, 2, 16)) + shift
