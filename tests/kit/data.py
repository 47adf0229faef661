"""Hand-made preference data, run configs, and stages run in this process."""

import functools
import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from prefopt.config import RunConfig, parse_config
from prefopt.data.manifest import MANIFEST, Manifest, read_manifest, verify
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain


@functools.cache
def picture(number: int, size: int = 16, kind: str = "PNG") -> bytes:
    """A small image whose bytes belong to this number alone."""
    colour = (number % 256, number // 256 % 256, 90)
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, kind)
    return buffer.getvalue()


def huge_png(width: int = 10_000, height: int = 10_000) -> bytes:
    """A few bytes that claim to be an image of very many pixels."""
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def judgement(
    prompt: Any,
    first: int | bytes | None,
    second: int | bytes | None,
    label: Any,
    user: str | int | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """A row in the Pick-a-Pic schema; images by number or as bytes."""
    cells = [picture(image) if isinstance(image, int) else image for image in (first, second)]
    return {"caption": prompt, "jpg_0": cells[0], "jpg_1": cells[1], "label_0": label, "user_id": user, **extra}


def distinct(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Judgements of unlike pairs under unlike prompts; three annotators, every third label 0."""
    return [
        judgement(f"prompt {n}", 2 * n, 2 * n + 1, float(n % 3 != 0), f"user {n % 3}", created_at=f"2024-01-01 {n:06d}")
        for n in range(start, start + count)
    ]


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], group_rows: int = 8) -> Path:
    """Rows as a parquet file with the columns of all of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def config_tree(place: Path, sources: Iterable[dict[str, Any]], **branches: Any) -> dict[str, Any]:
    """A config tree for small runs without Ray, with a store beside the run; `branches` are merged one level deep."""
    tree: dict[str, Any] = {
        "name": "small",
        "store": str(place / "store"),
        "model": {"path": "world"},
        "ingest": {"sources": list(sources), "unit_rows": 16, "split": {"validation": 0.1, "test": 0.2}},
        "score": {"resolution": 32, "batch": 8, "unit_images": 32},
        "train": {"steps": 2, "global_batch": 4, "micro_batch": 2},
        "evaluate": {"rewards": ["world/true"]},
        "cluster": {"engine": "process", "workers": 2, "worker_cpus": 0.5},
    }
    for name, branch in branches.items():
        tree[name] = {**tree.get(name, {}), **branch} if isinstance(branch, dict) else branch
    return tree


def small_config(place: Path, sources: Iterable[dict[str, Any]], **branches: Any) -> RunConfig:
    """The checked config of `config_tree`."""
    return parse_config(config_tree(place, sources, **branches), "small")


def quiet(done: int, total: int, what: str, how: str = "") -> None:
    """A progress that says nothing."""


def run_stages(
    config: RunConfig, run_dir: Path | str, stages: Sequence[str] = ("ingest",), progress: Any = quiet
) -> dict[str, StageOutput]:
    """Run stages where the config says, in this process or on its Ray; checks that every manifest under the run is
    consistent."""
    chain = Chain(config, str(run_dir), start_engine=lambda: None, progress=progress)
    outputs = {outcome.name: outcome.output for outcome in chain.run(stages)}
    check_manifests(str(run_dir))
    return outputs


def check_manifests(run_dir: str) -> list[Manifest]:
    """Every manifest below a run: rows in = rows out + quarantined, and all files as listed."""
    run = Storage(run_dir)
    places = [name.removesuffix(MANIFEST).rstrip("/") for name in run.files() if name.endswith(f"/{MANIFEST}")]
    manifests = []
    for place in places:
        manifest = read_manifest(run.child(place))
        assert manifest.rows.in_ == manifest.rows.out + manifest.rows.quarantined
        assert verify(run.child(place)) == []
        manifests.append(manifest)
    return manifests


def fingerprint(run_dir: Path | str) -> dict[str, Any]:
    """Stage to key and to every listed file with its hash: equal for equal runs."""
    found = check_manifests(str(run_dir))
    return {m.stage: (m.key, m.rows, {file.path: file.sha256 for file in m.files}) for m in found}


def table(output: StageOutput, kind: str) -> list[dict[str, Any]]:
    """The rows of all shards of a kind."""
    rows: list[dict[str, Any]] = read_tables(output, kind).to_pylist()
    return rows


class StopAfterError(Exception):
    """Stands for a kill: stops a stage from within its progress."""


class StopAfter:
    """A progress that stops the run once `units` units of `what` are done."""

    def __init__(self, what: str, units: int) -> None:
        self._what, self._units = what, units

    def __call__(self, done: int, total: int, what: str) -> None:
        if what == self._what and done >= self._units:
            raise StopAfterError(f"{what} {done}/{total}")
