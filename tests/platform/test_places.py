"""A config as another process reads it."""

from pathlib import Path

import pytest

from prefopt.config import parse_config
from prefopt.platform.places import settled
from prefopt.stages.chain import Chain
from tests.kit.data import config_tree, distinct, quiet, write_parquet


def test_local_places_lose_the_working_directory_and_no_key_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet(Path("data.parquet"), distinct(4))
    Path("prompts.txt").write_text("a\nb\n")
    Path("withdrawn.txt").touch()
    tree = config_tree(tmp_path, [{"kind": "pickapic", "path": "data.parquet"}])
    tree |= {"store": "store", "retrain": {"registry": "registry"}}
    tree["ingest"]["withdrawn"] = "withdrawn.txt"
    tree["evaluate"]["prompt_sets"] = [{"kind": "file", "name": "mine", "path": "prompts.txt"}]
    config = parse_config(tree, "my.yaml")
    made, place = settled(config, "run")
    assert place == str(tmp_path / "run")
    assert made.ingest.sources[0].path == str(tmp_path / "data.parquet")  # type: ignore[union-attr]
    assert (made.store, made.retrain.registry) == (str(tmp_path / "store"), str(tmp_path / "registry"))
    assert made.ingest.withdrawn == str(tmp_path / "withdrawn.txt")
    assert made.evaluate.prompt_sets[0].path == str(tmp_path / "prompts.txt")  # type: ignore[union-attr]
    mine, theirs = (Chain(one, "run", start_engine=lambda: None, progress=quiet) for one in (config, made))
    assert mine.key("evaluate") == theirs.key("evaluate")


def test_columns_and_uris_are_no_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    columns = {"shape": "ranking", "prompt": "prompt", "images": "images", "ranks": "ranks"}
    sources = [{"kind": "table", "path": "s3://bucket/rankings", "images": "images", "columns": columns}]
    tree = config_tree(tmp_path, sources) | {"store": "s3://bucket/store"}
    made, place = settled(parse_config(tree, "my.yaml"), "s3://bucket/run")
    source = made.model_dump()["ingest"]["sources"][0]
    assert (source["columns"]["images"], source["images"]) == ("images", str(tmp_path / "images"))
    assert (source["path"], made.store, place) == ("s3://bucket/rankings", "s3://bucket/store", "s3://bucket/run")
