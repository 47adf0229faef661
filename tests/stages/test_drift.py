"""The drift stage on hand-made outputs of the stages before it: what it reads, what it writes."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.data.ids import row_rng
from prefopt.data.manifest import Rows
from prefopt.data.pair_lists import write_pairs
from prefopt.data.schema import VOTES
from prefopt.data.storage import Storage
from prefopt.data.visits import latent_key
from prefopt.distributed.stores import latent_stores
from prefopt.drift.records import Drift, Signal, read_drift
from prefopt.errors import InputError
from prefopt.models.shape import latent_shape
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.drift import run
from prefopt.stages.keys import NIGHT
from tests.kit.data import config_tree, quiet
from tests.kit.drift import Side, Tables, make_tables
from tests.kit.stages import finished

CHAMPION_INGEST = "a" * 64
CHAMPION: dict[str, Any] = {"train": "b" * 64, "digest": "c" * 64, "ingest": CHAMPION_INGEST, "score": "d" * 64}


def night_config(place: Path, champion: dict[str, Any] | None, fresh: Iterable[str], **drift: Any) -> RunConfig:
    night = {
        "number": 3,
        "after": "e" * 64,
        "champion": champion,
        "full": False,
        "level": 0.01,
        "replay": 0.3,
        "fresh": write_pairs(str(place), "fresh.txt", fresh).model_dump(),
        "aside": write_pairs(str(place), "aside.txt", []).model_dump(),
    }
    tree = config_tree(place, [{"kind": "pickapic", "path": str(place)}], night=night, retrain={"drift": drift})
    return parse_config(tree, "night")


def context(
    place: Path,
    tables: Tables,
    *,
    champion: bool = True,
    cut: int = 60,
    left_out: frozenset[str] = frozenset(),
    again: frozenset[str] = frozenset(),
    **drift: Any,
) -> StageContext:
    """Stages before drift, in two shards each, and the champion's ingest stage with the known pairs' votes."""
    base = place / "champion"
    seen = tables.labels.filter(pa.array([pair in tables.known for pair in tables.labels["pair_id"].to_pylist()]))
    finished(
        base / "ingest" / CHAMPION_INGEST[:12], "ingest", {"votes-00000": seen.select(VOTES.names)}, key=CHAMPION_INGEST
    )
    fresh = set(tables.pairs["pair_id"].to_pylist()) - tables.known - left_out | again
    config = night_config(place, {**CHAMPION, "run": str(base)} if champion else None, fresh, **drift)

    def shards(kind: str, table: pa.Table) -> dict[str, pa.Table]:
        return {f"{kind}-00000": table.slice(0, cut), f"{kind}-00001": table.slice(cut)}

    votes = shards("votes", tables.labels.select(VOTES.names))
    ingested = {**votes, **shards("pairs", tables.pairs), "images-00000": tables.images}
    return StageContext(
        config=config,
        sources=(),
        parents={
            "ingest": finished(place / "ingest", "ingest", ingested),
            "inject": finished(place / "inject", "inject", shards("labels", tables.labels)),
            "score": finished(place / "score", "score", {"scores-00000": tables.scores}),
        },
        output=Storage(str(place / "drift")),
        store=Storage(config.store),
        logs=Storage(str(place / "logs")),
        progress=quiet,
    )


def fill_latents(
    made: StageContext, tables: Tables, *, mirrored: bool = False, skip: int = 0, shift: float = 0.0
) -> None:
    """Latents of all but the first pairs' images, those of new pairs shifted; or their mirror images, as mirrored."""
    ((size, store),) = latent_stores(made.store, made.config).items()
    shape, rows = latent_shape(made.config, size), []
    for pair in tables.pairs.to_pylist()[skip:]:
        for side in ("image_0", "image_1"):
            latent = row_rng(0, "x0", pair[side]).standard_normal(shape) + shift * (pair["pair_id"] not in tables.known)
            latent = latent[..., ::-1] if mirrored else latent
            rows.append({"key": latent_key(pair[side], mirrored), "x0": store.pack(latent.astype(np.float32), "kit")})
    store.append(pa.Table.from_pylist(rows, schema=pa.schema({"key": pa.string(), "x0": pa.binary()})))


def signals(found: Drift) -> dict[str, Signal]:
    return {signal.name: signal for signal in found.signals}


def done(made: StageContext) -> tuple[StageResult, Drift]:
    result = run(made)
    return result, read_drift(made.output)


def test_the_stage_compares_new_pairs_with_the_champions(tmp_path: Path) -> None:
    tables = make_tables(Side(120), Side(60))
    made = context(tmp_path, tables)
    fill_latents(made, tables)
    result, found = done(made)
    assert result.rows == Rows(in_=180, out=180)
    assert result.files == ["drift.json"] == made.output.files()
    assert NIGHT["drift"].parents == tuple(made.parents)
    assert found.known == CHAMPION_INGEST
    assert (found.counts.known, found.counts.new) == (120, 60)
    assert {name: (signal.known, signal.new) for name, signal in signals(found).items()} == {
        "prompts": (120, 60),
        "images": (240, 120),
        "annotators": (120, 60),
        "agreement": (120, 60),
        "minority": (120, 60),
    }
    assert found.action == "train"
    assert found.warnings == []
    assert result.summary == {
        "action": "train",
        "new_pairs": 60,
        "known_pairs": 120,
        "warnings": None,
        **{name: signal.value for name, signal in signals(found).items()},
    }


def test_flipped_labels_hold_the_night_where_the_config_says_so(tmp_path: Path) -> None:
    tables = make_tables(Side(120), Side(60, flipped=0.5))
    result, found = done(context(tmp_path, tables, agreement={"warn": 0.1, "hold": 0.2}))
    assert result.summary["action"] == found.action == "hold"
    assert signals(found)["agreement"].verdict == "hold"
    assert result.summary["warnings"] == ", ".join(signal.name for signal in found.warnings)


def test_without_a_champion_there_is_nothing_to_compare(tmp_path: Path) -> None:
    result, found = done(context(tmp_path, make_tables(Side(20), Side(10)), champion=False))
    assert (found.action, found.known, found.signals) == ("train", None, [])
    assert found.counts.new == 30
    assert (result.summary["new_pairs"], result.summary["known_pairs"]) == (30, 0)
    assert result.rows.in_ == 30


def test_images_come_from_the_store_and_none_is_made(tmp_path: Path) -> None:
    tables = make_tables(Side(60), Side(40))
    made = context(tmp_path, tables)
    missing = signals(done(made)[1])["images"]
    assert (missing.verdict, missing.value, missing.p) == ("not_measured", None, None)
    assert missing.sentence.startswith("Images were not compared: there are 0 known images with stored latents")
    assert made.store.files() == []
    fill_latents(made, tables, skip=10)
    found = signals(done(made)[1])["images"]
    assert (found.known, found.new) == (100, 80)


def test_mirrored_latents_are_turned_back(tmp_path: Path) -> None:
    tables = make_tables(Side(40), Side(40))
    found = []
    for mirrored in (False, True):
        made = context(tmp_path / str(mirrored), tables)
        fill_latents(made, tables, mirrored=mirrored, shift=0.5)
        found.append(signals(done(made)[1])["images"])
    assert found[1] == found[0]
    assert found[0].value is not None
    assert found[0].value > 0.2


def test_the_order_of_shards_and_rows_does_not_matter(tmp_path: Path) -> None:
    tables = make_tables(Side(90), Side(50, flipped=0.3))
    files = []
    for place, one, cut in (("a", tables, 60), ("b", tables.turned(), 17)):
        made = context(tmp_path / place, one, cut=cut)
        fill_latents(made, one)
        run(made)
        files.append(made.output.read_bytes("drift.json"))
    assert files[0] == files[1]


def test_a_pair_with_a_new_vote_is_new(tmp_path: Path) -> None:
    tables = make_tables(Side(60), Side(30))
    again = {**tables.labels.to_pylist()[0], "vote_id": "f" * 32, "annotator": "someone else"}
    labels = pa.concat_tables([tables.labels, pa.Table.from_pylist([again], schema=tables.labels.schema)])
    made = context(tmp_path, tables, again=frozenset([again["pair_id"]]))
    inject = finished(tmp_path / "again", "inject", {"labels-00000": labels})
    found = done(replace(made, parents={**made.parents, "inject": inject}))[1]
    assert (found.counts.known, found.counts.new) == (59, 31)


def test_a_champion_that_is_gone_is_named(tmp_path: Path) -> None:
    made = context(tmp_path, make_tables(Side(60), Side(30)))
    Storage(str(tmp_path / "champion")).delete("ingest")
    with pytest.raises(InputError, match=r"champion's ingest stage is not in .* any more"):
        run(made)


def test_pairs_that_an_earlier_night_has_judged_are_on_neither_side(tmp_path: Path) -> None:
    tables = make_tables(Side(120), Side(60))
    judged = frozenset(sorted(set(tables.pairs["pair_id"].to_pylist()) - tables.known)[:20])
    _, found = done(context(tmp_path, tables, left_out=judged))
    assert (found.counts.known, found.counts.new) == (120, 40)
