"""The real stages after gc and forget: a kept run is planned anew without computing a row again."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.data.keys import KINDS
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn
from prefopt.retention.forget import forget
from prefopt.retention.gc import gc
from prefopt.retention.runs import Run
from tests.kit.data import fingerprint, judgement, picture, run_stages, small_config, table, write_parquet
from tests.kit.retention import age

STAGES = ("ingest", "inject", "score", "card")
pytestmark = pytest.mark.slow


def config(place: Path, name: str, start: int) -> RunConfig:
    """Inverted visits, cached reference errors and two rewards, on some shared and some own pairs."""
    path = write_parquet(place / f"data-{name}" / "x.parquet", [*_rows(0), *_rows(start)])
    return small_config(
        place,
        [{"kind": "pickapic", "path": str(path)}],
        score={"alpha": {"reward": "world/style"}, "visits": {"inversion": "renoise", "steps": 2, "batch": 4}},
        train={"reference": "cached", "steps": 4},
    )


def _rows(start: int) -> list[dict[str, Any]]:
    """Judgements on pictures as large as those of the world, whose rewards judge them."""
    images = [picture(number, 32) for number in range(2 * start, 2 * start + 12)]
    return [
        judgement(f"prompt {start + n}", images[2 * n], images[2 * n + 1], float(n % 3 != 0), f"user {n % 3}")
        for n in range(6)
    ]


def parts(store: Storage) -> list[str]:
    return [name for kind in KINDS for name in store.files(kind)]


def test_a_kept_run_is_planned_anew_and_a_forgetful_one_computes_nothing(tmp_path: Path) -> None:
    store, kept = Storage(str(tmp_path / "store")), tmp_path / "kept"
    run_stages(config(tmp_path, "old", 20), tmp_path / "old", STAGES)
    made = run_stages(config(tmp_path, "kept", 40), kept, STAGES)
    before = fingerprint(kept)
    age(tmp_path, 3)
    age(tmp_path / "old", 5)
    done = gc([Run.open(str(tmp_path / "old")), Run.open(str(kept))], store, keep=1)
    assert done.runs == [str(tmp_path / "old")]
    assert {
        "store x0",
        "store rewards",
        "store inverted",
        "store references",
        "store scanned",
    } <= done.tally.kinds.keys()
    left = parts(store)
    run_stages(config(tmp_path, "kept", 40), kept, STAGES)
    shutil.rmtree(kept / "score")
    shutil.rmtree(kept / "ingest")
    run_stages(config(tmp_path, "kept", 40), kept, STAGES)
    assert fingerprint(kept) == before
    assert parts(store) == left, "nothing was computed again"
    pair = table(made["ingest"], "pairs-")[0]
    forget(Withdrawn(frozenset({pair["pair_id"]})), store, [Run.open(str(kept))])
    after = run_stages(config(tmp_path, "kept", 40), tmp_path / "after", STAGES)
    assert after["ingest"].manifest.summary["quarantined_withdrawn"] == 1
    assert pair["pair_id"] not in {row["pair_id"] for row in table(after["score"], "scores-")}
    images = {pair["image_0"], pair["image_1"]}
    assert images.isdisjoint(row["image_id"] for row in table(after["ingest"], "images-"))
    for name in store.files("x0"):
        if name.endswith(".parquet"):
            assert images.isdisjoint(store.read_table(name)["image_id"].to_pylist())
