"""Memory stays flat in the number of rows: real-sized pictures through ingest, inject and the data card."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tests.kit.commands import command
from tests.kit.data import check_manifests, config_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PICTURES = 200
FILES = 5
VOTES_PER_FILE = 1_000
PAIRS_PER_GROUP = 95
"""Of 100 votes, so that the last 5 of a row group contradict its first: they are shown on the card."""
STAGES = ("ingest", "inject", "score", "card")
MEASURED = ("ingest", "inject", "card")
LARGEST_GROWTH = 1.15


def jpeg(number: int) -> bytes:
    """A 1024x1024 JPEG of about 200 kB."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).resize((1024, 1024))
    grain = rng.normal(0, 6, (1024, 1024, 1))
    pixels = np.clip(np.asarray(coarse, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def unique(picture: bytes, number: int) -> bytes:
    """The same picture with a comment segment of its own."""
    comment = f"copy {number}".encode()
    return picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    pictures = [jpeg(number) for number in range(PICTURES)]
    assert 120_000 < np.mean([len(picture) for picture in pictures]) < 320_000
    schema = pa.schema(
        {
            "caption": pa.string(),
            "jpg_0": pa.binary(),
            "jpg_1": pa.binary(),
            "label_0": pa.float64(),
            "user_id": pa.string(),
        }
    )
    for file in range(FILES):
        with pq.ParquetWriter(folder / f"{file}.parquet", schema, compression="none") as writer:
            for start in range(0, VOTES_PER_FILE, 100):
                numbers = [file * VOTES_PER_FILE + start + row % PAIRS_PER_GROUP for row in range(100)]
                columns = {
                    "caption": [f"a picture of thing number {n}" for n in numbers],
                    "jpg_0": [unique(pictures[2 * n % PICTURES], 2 * n) for n in numbers],
                    "jpg_1": [unique(pictures[(2 * n + 1) % PICTURES], 2 * n + 1) for n in numbers],
                    "label_0": [float((n + row // PAIRS_PER_GROUP) % 2) for row, n in enumerate(numbers)],
                    "user_id": [f"user {(n + row // PAIRS_PER_GROUP) % 50}" for row, n in enumerate(numbers)],
                }
                writer.write_table(pa.table(columns, schema=schema))
    yield folder
    shutil.rmtree(folder)


def peak(place: Path, source: Path, votes: int) -> int:
    """Largest sum of PSS, in bytes, of the driver and all its children over the stages."""
    place.mkdir()
    sources = [{"kind": "pickapic", "path": str(source)}]
    flips = [{"kind": "symmetric", "rate": 0.2}]
    ingest = {"sources": sources, "unit_rows": 200, "split": {"validation": 0.0, "test": 0.02}}
    tree = config_tree(place, sources, ingest=ingest, inject={"flips": flips}, cluster={"engine": "ray", "cpus": 2})
    (place / "my.yaml").write_text(yaml.safe_dump(tree))
    highest = 0
    for stage in STAGES:
        with command(stage, "my.yaml", "--run-dir", "run", directory=place) as running:
            running.watch_memory()
            assert running.finish() == 0, running.said
            highest = max(highest, running.peak_pss if stage in MEASURED else 0)
    rows = {manifest.stage: manifest.rows.out for manifest in check_manifests(str(place / "run"))}
    assert rows == {**dict.fromkeys(STAGES, votes), "score": votes * PAIRS_PER_GROUP // 100}
    (page,) = (place / "run").glob("card/*/data-card.html")
    assert page.read_bytes().count(b"<img") == 48
    return highest


@pytest.mark.matrix
def test_memory_does_not_grow_with_the_number_of_pairs(data: Path, tmp_path: Path) -> None:
    few = peak(tmp_path / "few", data / "0.parquet", VOTES_PER_FILE)
    many = peak(tmp_path / "many", data, FILES * VOTES_PER_FILE)
    assert many <= LARGEST_GROWTH * few, f"{few / 1e6:.0f} MB for 1,000 votes, {many / 1e6:.0f} MB for 5,000"
    print(f"{few / 1e6:.0f} MB for 1,000 votes, {many / 1e6:.0f} MB for 5,000")  # noqa: T201
