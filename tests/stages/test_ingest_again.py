"""Ingest after ingest: what an earlier run has read is not read again, and the tables are the same."""

import json
from pathlib import Path
from typing import Any

from tests.kit.data import distinct, fingerprint, picture, run_stages, small_config, write_parquet


def rows_of(place: Path, data: Path, run: str, **branches: Any) -> dict[str, int]:
    """Run ingest on a directory; gives how many rows were read and how many were known."""
    config = small_config(place, [{"kind": "pickapic", "path": str(data)}], **branches)
    run_stages(config, place / run)
    found: dict[str, int] = json.loads((place / run / "logs" / "ingest" / "rows.json").read_bytes())
    return found


def test_only_new_files_are_read(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_parquet(data / "a.parquet", distinct(6))
    assert rows_of(tmp_path, data, "first") == {"read": 6, "known": 0}
    write_parquet(data / "b.parquet", distinct(4, start=6))
    assert rows_of(tmp_path, data, "second") == {"read": 4, "known": 6}
    assert rows_of(elsewhere, data, "fresh") == {"read": 10, "known": 0}
    assert fingerprint(tmp_path / "second") == fingerprint(elsewhere / "fresh")
    (data / "a.parquet").unlink()
    assert rows_of(tmp_path, data, "third") == {"read": 0, "known": 4}


def test_a_changed_file_or_rule_is_read_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_parquet(data / "a.parquet", distinct(6))
    rows_of(tmp_path, data, "first")
    write_parquet(data / "a.parquet", distinct(6, start=1))
    assert rows_of(tmp_path, data, "second") == {"read": 6, "known": 0}
    limits = {"limits": {"prompt_bytes": 100}}
    assert rows_of(tmp_path, data, "third", ingest=limits) == {"read": 6, "known": 0}


def test_a_changed_image_beside_the_table_is_seen(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("x", "y"):
        (images / f"{name}.png").write_bytes(picture(ord(name)))
    (tmp_path / "votes.csv").write_text("winner,loser,prompt\nx.png,y.png,a cat\n")
    source = {"kind": "folder", "path": str(tmp_path / "votes.csv"), "images": str(images)}

    def rows(run: str) -> dict[str, int]:
        run_stages(small_config(tmp_path, [source]), tmp_path / run)
        found: dict[str, int] = json.loads((tmp_path / run / "logs" / "ingest" / "rows.json").read_bytes())
        return found

    assert rows("first") == {"read": 1, "known": 0}
    (images / "y.png").write_bytes(picture(3))
    assert rows("second") == {"read": 1, "known": 0}
