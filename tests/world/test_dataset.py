import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prefopt.world.dataset import SCHEMA, world_pair, write_dataset
from prefopt.world.scenes import render

PICKAPIC = [
    "are_different", "best_image_uid", "caption", "created_at", "has_label", "image_0_uid", "image_0_url",
    "image_1_uid", "image_1_url", "jpg_0", "jpg_1", "label_0", "label_1", "model_0", "model_1", "ranking_id",
    "user_id", "num_example_per_prompt",
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder, pairs=150, seed=4, repeated=0.3, rows_per_file=100, row_group_rows=40)
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_follow_from_the_arguments(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", pairs=150, seed=4, repeated=0.3, rows_per_file=100, row_group_rows=40)
    write_dataset(tmp_path / "other", pairs=150, seed=5, repeated=0.3, rows_per_file=100, row_group_rows=40)
    assert files(tmp_path / "again") == files(dataset)
    assert files(tmp_path / "other") != files(dataset)


def test_the_columns_are_pick_a_pics_and_the_group(dataset: Path) -> None:
    table = pq.read_table(dataset / "part-00000.parquet")
    assert table.schema.names == [*PICKAPIC, "user_group"]
    assert table.schema == SCHEMA


def test_files_and_row_groups_have_the_asked_sizes(dataset: Path) -> None:
    first = pq.ParquetFile(dataset / "part-00000.parquet").metadata
    assert first.num_rows == 100
    assert [first.row_group(k).num_rows for k in range(first.num_row_groups)] == [40, 40, 20]


def test_every_row_is_consistent(dataset: Path) -> None:
    counts: dict[str, int] = defaultdict(int)
    for row in rows(dataset):
        counts[row["caption"]] += 1
    for row in rows(dataset):
        assert row["label_0"] + row["label_1"] == 1.0
        assert row["has_label"]
        best = {1.0: row["image_0_uid"], 0.0: row["image_1_uid"], 0.5: ""}[row["label_0"]]
        assert row["best_image_uid"] == best
        assert row["are_different"] == (row["label_0"] != 0.5)
        assert row["num_example_per_prompt"] == counts[row["caption"]]


def test_pictures_are_lossless_renders_of_the_scenes(dataset: Path) -> None:
    pair = world_pair(4, 0)
    row = rows(dataset)[0]
    assert row["caption"] == pair.prompt
    for side, scene in (("jpg_0", pair.first), ("jpg_1", pair.second)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row[side]))), render(scene))


def test_some_pairs_have_votes_of_several_people(dataset: Path) -> None:
    judges: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows(dataset):
        judges[row["image_0_uid"], row["image_1_uid"]].append(row["user_id"])
    assert len(judges) == 150
    sizes = [len(people) for people in judges.values()]
    assert set(sizes) == {1, 3}
    assert 0.15 < np.mean(np.array(sizes) == 3) < 0.45
    assert all(len(set(people)) == len(people) for people in judges.values())


def test_there_are_ties_and_ranking_ids_are_unique(dataset: Path) -> None:
    table = rows(dataset)
    assert any(row["label_0"] == 0.5 for row in table)
    assert len({row["ranking_id"] for row in table}) == len(table)


def test_a_longer_data_set_extends_a_shorter_one(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, pairs=60, seed=4, repeated=0.3)
    short, long = rows(tmp_path), rows(dataset)
    for row in (*short, *long):
        row.pop("num_example_per_prompt")
    assert short == long[: len(short)]


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"votes_per_pair": 99}, {"repeated": 1.5}, {"rows_per_file": 0}])
def test_impossible_arguments_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        write_dataset(tmp_path, **{"pairs": 2, "seed": 0, **wrong})
