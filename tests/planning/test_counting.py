import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefopt.config import RunConfig, dump_config
from prefopt.data.schema import PAIRS
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError
from prefopt.planning.counting import count_data
from tests.kit.data import distinct, small_config, write_parquet
from tests.kit.stages import finished, pair_row

KEY = "ab" * 32


def count(config: RunConfig, place: Path, pairs: int | None = None) -> Any:
    return count_data(config, Storage(str(place / "run")), pairs)


def parquet(place: Path, rows: int = 40) -> list[dict[str, Any]]:
    return [{"kind": "pickapic", "path": str(write_parquet(place / "x.parquet", distinct(rows)))}]


def ingested(place: Path, config: RunConfig) -> None:
    """A finished ingest of this config: 6 pairs, 2 of them under one prompt of the test split."""
    splits = ["train", "train", "train", "validation", "test", "test"]
    rows = [pair_row(n, f"prompt {min(n, 4)}", split) for n, split in enumerate(splits)]
    finished(
        place / f"run/ingest/{KEY[:12]}",
        "ingest",
        {"pairs-00000": pa.Table.from_pylist(rows, schema=PAIRS)},
        summary={"images": 11, "pairs": 6},
        key=KEY,
    )
    run = Storage(str(place / "run"))
    run.write_bytes("run.json", json.dumps({"ingest": KEY}).encode())
    run.write_bytes("logs/ingest/config.yaml", dump_config(config).encode())


def test_a_finished_ingest_is_counted(tmp_path: Path) -> None:
    config = small_config(tmp_path, parquet(tmp_path))
    ingested(tmp_path, config)
    counts = count(config, tmp_path)
    assert (counts.votes, counts.pairs, counts.images, counts.exact) == (6, 6, 11, True)
    assert counts.by_split == {"train": 3, "validation": 1, "test": 2}
    assert counts.prompts == {"train": 3, "validation": 1, "test": 1}
    assert counts.train_examples == 3


def test_an_ingest_of_other_sources_is_not_taken(tmp_path: Path) -> None:
    ingested(tmp_path, small_config(tmp_path, [{"kind": "world"}]))
    counts = count(small_config(tmp_path, parquet(tmp_path)), tmp_path)
    assert (counts.pairs, counts.exact) == (40, False)


def test_an_unfinished_ingest_is_not_taken(tmp_path: Path) -> None:
    config = small_config(tmp_path, parquet(tmp_path))
    ingested(tmp_path, config)
    Storage(str(tmp_path / "run")).delete(f"ingest/{KEY[:12]}/manifest.json")
    assert not count(config, tmp_path).exact


def test_parquet_is_counted_by_its_footers_alone(tmp_path: Path) -> None:
    source = parquet(tmp_path)
    path = tmp_path / "x.parquet"
    data = bytearray(path.read_bytes())
    data[4:1000] = bytes(996)
    path.write_bytes(data)
    counts = count(small_config(tmp_path, [*source, {"kind": "world", "pairs": 10}]), tmp_path)
    assert (counts.votes, counts.pairs, counts.images) == (52, 50, 100)
    assert counts.by_split == pytest.approx({"train": 35, "validation": 5, "test": 10})


def test_the_users_number_wins(tmp_path: Path) -> None:
    config = small_config(tmp_path, parquet(tmp_path))
    ingested(tmp_path, config)
    counts = count(config, tmp_path, pairs=1000)
    assert (counts.pairs, counts.source) == (1000, "--pairs")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "pickapic", "path": "nowhere"}, r"sources\.0 \(pickapic\): There is no \.parquet file at nowhere"),
        ({"kind": "folder", "path": "x.csv", "images": "i"}, r"sources\.0 \(folder\): its files do not say how many"),
        ({"kind": "hpdv2", "path": "x.json", "images": "i"}, r"\(hpdv2\): its files do not say how many rows"),
        (
            {
                "kind": "table",
                "path": "x.parquet",
                "columns": {"shape": "ranking", "prompt": "p", "images": "i", "ranks": "r"},
            },
            r"\(table\): how many pairs its rankings give is known only when they are read",
        ),
    ],
)
def test_where_nothing_tells_the_user_is_asked(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{message}.*--pairs, or run `prefopt ingest` first"):
        count(small_config(tmp_path, [source]), tmp_path)


def test_lines_do_not_say_how_many_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    columns = {"prompt": "p", "image_0": "a", "image_1": "b", "label": "l"}
    source = {"kind": "table", "path": str(tmp_path / "x.jsonl"), "columns": columns}
    with pytest.raises(ConfigError, match=r"x\.jsonl does not say how many rows it holds"):
        count(small_config(tmp_path, [source]), tmp_path)


def test_a_broken_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ConfigError, match=r"x\.parquet is not a whole parquet file"):
        count(small_config(tmp_path, [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}]), tmp_path)


def test_a_limit_of_prompts_does_not_tell_pairs(tmp_path: Path) -> None:
    config = small_config(tmp_path, parquet(tmp_path), limit=5)
    with pytest.raises(ConfigError, match="limit keeps the first 5 prompts"):
        count(config, tmp_path)
    assert count(config, tmp_path, pairs=7).pairs == 7
