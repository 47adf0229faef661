"""Writes a preference data set of the world in the Pick-a-Pic schema (prefopt)."""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from prefopt.data.ids import row_rng
from prefopt.world import WORLD_VERSION
from prefopt.world.annotators import DEFAULT_SHARES, Annotator, population, vote
from prefopt.world.scenes import UNFAITHFUL, Scene, render, sample_prompt, sample_scene

SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ms")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("user_group", pa.string()),
    ]
)
"""The columns of Pick-a-Pic v1 and v2, and user_group: the annotator's group, known in this world."""

_START = datetime.datetime(2024, 1, 1)
_MODEL = f"world-v{WORLD_VERSION}"


@dataclass(frozen=True)
class WorldPair:
    """A pair with its ground truth: two scenes drawn for one prompt."""

    prompt: str
    first: Scene
    second: Scene


def world_pair(seed: int, index: int, unfaithful: float = UNFAITHFUL) -> WorldPair:
    """Pair number `index` of the data set with this seed."""
    rng = row_rng(seed, "world/pair", index)
    prompt = sample_prompt(rng)
    first, second = (sample_scene(rng, prompt, unfaithful) for _ in range(2))
    return WorldPair(prompt.text, first, second)


def write_dataset(
    directory: Path,
    *,
    pairs: int,
    seed: int,
    votes_per_pair: int = 3,
    repeated: float = 0.1,
    annotators: int = 60,
    shares: Mapping[str, float] = DEFAULT_SHARES,
    unfaithful: float = UNFAITHFUL,
    rows_per_file: int = 1000,
    row_group_rows: int = 100,
    people_seed: int | None = None,
    day: int = 0,
) -> None:
    """Write parquet files part-00000.parquet, ... with one row per vote.

    Data sets of several days, each with its `seed`, are by the same people if they share `people_seed` (by default the
    seed); `day` counts from the first of January 2024, when their votes begin.

    A share `repeated` of the pairs is judged by `votes_per_pair` different people, the others by one. The bytes
    follow from the arguments alone. jpg_0 and jpg_1 hold PNG: at 32x32 it is smaller than a JPEG of like quality
    and lossless, so that what is measured on a picture is what was drawn.
    Raises ValueError on impossible counts or shares.
    """
    if pairs < 1 or rows_per_file < 1 or row_group_rows < 1:
        raise ValueError("pairs, rows_per_file and row_group_rows must be positive")
    if not 1 <= votes_per_pair <= annotators or not 0.0 <= repeated <= 1.0:
        raise ValueError("votes_per_pair must lie in [1, annotators] and repeated in [0, 1]")
    people = population(annotators, seed if people_seed is None else people_seed, shares)
    begin = _START + datetime.timedelta(days=day)
    rows: list[dict[str, Any]] = []
    for index in range(pairs):
        rows += _pair_rows(index, seed, people, votes_per_pair, repeated, unfaithful, begin)
    rows.sort(key=lambda row: int(row["ranking_id"]))
    _count_examples(rows)
    directory.mkdir(parents=True, exist_ok=True)
    for part, at in enumerate(range(0, len(rows), rows_per_file)):
        table = pa.Table.from_pylist(rows[at : at + rows_per_file], schema=SCHEMA)
        pq.write_table(table, directory / f"part-{part:05d}.parquet", row_group_size=row_group_rows, compression="zstd")


def _pair_rows(
    index: int,
    seed: int,
    people: list[Annotator],
    votes: int,
    repeated: float,
    unfaithful: float,
    begin: datetime.datetime,
) -> list[dict[str, Any]]:
    pair = world_pair(seed, index, unfaithful)
    rng = row_rng(seed, "world/judges", index)
    count = votes if rng.random() < repeated else 1
    judges = rng.choice(len(people), size=count, replace=False)
    pictures = [encode_png(render(scene)) for scene in (pair.first, pair.second)]
    uids = [_uid(picture) for picture in pictures]
    rows = []
    for turn, judge in enumerate(judges):
        person = people[int(judge)]
        draw = row_rng(seed, "world/vote", index, person.user_id)
        label = vote(person, pair.first, pair.second, pair.prompt, draw)
        ranking = index * votes + turn
        rows.append(
            {
                "are_different": label != 0.5,
                "best_image_uid": {1.0: uids[0], 0.0: uids[1], 0.5: ""}[label],
                "caption": pair.prompt,
                "created_at": begin + datetime.timedelta(seconds=60 * ranking),
                "has_label": True,
                "image_0_uid": uids[0],
                "image_0_url": f"world://{uids[0]}.png",
                "image_1_uid": uids[1],
                "image_1_url": f"world://{uids[1]}.png",
                "jpg_0": pictures[0],
                "jpg_1": pictures[1],
                "label_0": label,
                "label_1": 1.0 - label,
                "model_0": _MODEL,
                "model_1": _MODEL,
                "ranking_id": ranking,
                "user_id": person.user_id,
                "user_group": person.group,
            }
        )
    return rows


def _count_examples(rows: list[dict[str, Any]]) -> None:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["caption"]] = counts.get(row["caption"], 0) + 1
    for row in rows:
        row["num_example_per_prompt"] = counts[row["caption"]]


def encode_png(pixels: Any) -> bytes:
    """PNG bytes of a uint8 [h, w, 3] picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _uid(picture: bytes) -> str:
    digest = hashlib.sha256(picture).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
