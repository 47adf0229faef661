"""Finished stages, made up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefopt.data.ids import digest
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.stages.base import StageOutput


def finished(
    directory: Path,
    stage: str,
    tables: Mapping[str, pa.Table],
    *,
    summary: dict[str, Any] | None = None,
    extra: Sequence[str] = (),
    key: str | None = None,
    count: int | None = None,
) -> StageOutput:
    """A stage's committed output of some tables and of files that already lie there.

    `count`: of the stage's rows; by default those of the first table.
    """
    storage = Storage(str(directory))
    for name, table in tables.items():
        storage.write_table(f"{name}.parquet", table)
    count = len(next(iter(tables.values()))) if count is None else count
    manifest = Manifest(
        stage=stage,
        key=key or digest(stage) * 2,
        parents={},
        config_hash="0" * 64,
        code_version=1,
        commit="unknown",
        environment={"torch": "2", "cpu": "x86_64"},
        unit="vote",
        rows=Rows(in_=count, out=count),
        files=[describe_file(storage, name) for name in sorted([*[f"{name}.parquet" for name in tables], *extra])],
        summary=summary or {},
    )
    commit_manifest(storage, manifest)
    return StageOutput(storage, manifest)


def pair_row(index: int, prompt: str, split: str) -> dict[str, Any]:
    """A row of PAIRS whose ids follow from the index."""
    first, second = sorted((digest("image", str(index), "a"), digest("image", str(index), "b")))
    return {
        "pair_id": digest("pair", str(index)),
        "prompt": prompt,
        "image_0": first,
        "image_1": second,
        "split": split,
        "source_file": "kit",
        "source_row": index,
    }
