"""gc, on runs and a store that were laid there: what no kept run reaches goes, and a kept run lacks nothing."""

import json
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefopt.data.keys import reference_keys, reward_key
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.tables import read_tables
from prefopt.data.users import note_user
from prefopt.data.visits import latent_key
from prefopt.errors import InputError
from prefopt.registry import Registry, champion_of
from prefopt.retention.gc import Collected, gc
from prefopt.retention.runs import Run
from prefopt.stages.keys import STAGES
from tests.kit.data import distinct
from tests.kit.retention import DAY, FAMILIES, MadeRun, age, all_whole, copies, make_run, snapshot

SHARED = distinct(4)


def collect(*made: MadeRun, keep: int | None = 1, **how: Any) -> Collected:
    runs = [Run.open(str(one.place)) for one in made]
    return gc(runs, made[0].store, keep=keep, **how)


def aged(made: MadeRun, days: float) -> MadeRun:
    """A run that ended so long ago."""
    age(made.place, days)
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> list[MadeRun]:
    """From the oldest to the newest, sharing some pairs."""
    place = tmp_path_factory.mktemp("made")
    return [
        make_run(place, f"run {model}", [*SHARED, *distinct(3, start=start)], model=model)
        for start, model in ((20, "one"), (40, "two"), (60, "three"))
    ]


@pytest.fixture
def three(template: list[MadeRun], tmp_path: Path) -> tuple[MadeRun, MadeRun, MadeRun]:
    """Everything is older than the grace period."""
    found = copies(template, tmp_path)
    for run, days in zip(found, (9, 7, 5), strict=True):
        age(run.place, days)
    age(tmp_path / "store", 3)
    return tuple(found)  # type: ignore[return-value]


def lacks_nothing(made: MadeRun) -> None:
    """Every stage is skipped, and whatever would be planned anew from its tables lies in the store."""
    chain = made.chain()
    assert all(outcome.skipped for outcome in chain.run(STAGES))
    all_whole(made.place)
    visits = read_tables(chain.finished("score", "a test"), "visits-")
    shown = [(pair[side], pair["prompt"]) for pair in made.pairs for side in ("image_0", "image_1")]
    keys = {
        "x0": [latent_key(image, flip) for image, _ in shown for flip in (False, True)],
        "rewards": [reward_key(image, prompt) for image, prompt in shown],
        "inverted": visits["inverted_key"].to_pylist(),
        "references": reference_keys(visits),
    }
    for kind, wanted in keys.items():
        store = RowStore(made.store, kind, FAMILIES[kind])
        store.refresh()
        assert store.missing(wanted) == [], kind


def test_the_newest_runs_stay_and_lack_nothing(three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path) -> None:
    one, two, last = three
    planned = snapshot(tmp_path)
    dry = collect(*three, keep=2, dry_run=True)
    assert snapshot(tmp_path) == planned
    done = collect(*three, keep=2)
    assert done.runs == dry.runs == [str(one.place)]
    assert done.kept == {str(run.place): "among the newest 2" for run in (two, last)}
    assert {kind: removed.rows for kind, removed in dry.tally.kinds.items()} == {
        kind: removed.rows for kind, removed in done.tally.kinds.items()
    }
    assert not one.place.exists() or not list(one.place.rglob("*.parquet"))
    for run in (two, last):
        lacks_nothing(run)
    assert done.bytes > 0


def test_only_rows_of_the_removed_runs_go(three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path) -> None:
    last, fresh = three[2], tmp_path / "store"
    collect(*three, keep=1)
    wanted = {pair["pair_id"] for pair in last.pairs}
    images = {pair[side] for pair in last.pairs for side in ("image_0", "image_1")}
    for kind, column, left in (
        ("x0", "image_id", images),
        ("rewards", "image_id", images),
        ("inverted", "pair_id", wanted),
        ("references", "pair_id", wanted),
    ):
        parts = [Storage(str(fresh)).read_table(name) for name in Storage(str(fresh)).files(kind) if "parquet" in name]
        assert set(pa.concat_tables(parts)[column].to_pylist()) == left, kind
    families = [json.loads(path.read_text())["model"] for path in (fresh / "generated").glob("*/family.json")]
    assert sorted(families) == ["base", "three"], "images of models that only removed runs have drawn"
    lacks_nothing(last)


def test_rows_that_do_not_say_whose_they_are(tmp_path: Path) -> None:
    old = aged(make_run(tmp_path, "old", [*SHARED, *distinct(2, start=40)], owners=False), 5)
    new = aged(make_run(tmp_path, "new", SHARED, owners=False), 3)
    age(tmp_path / "store", 3)
    done = collect(old, new)
    assert {kind for kind in done.tally.kinds if kind.startswith("store")} == {
        f"store {kind}" for kind in ("x0", "rewards", "inverted", "generated", "scanned")
    }, "reference errors of earlier versions stay, as nothing tells whose they are"
    lacks_nothing(new)


def test_all_keeps_every_run(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    done = collect(*three, keep=None)
    assert (done.runs, done.bytes) == ([], 0)
    for run in three:
        lacks_nothing(run)


def test_runs_of_the_registry_stay(three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path) -> None:
    one, two, last = three
    registry = Registry(str(tmp_path / "registry"))
    first = registry.add([], "promote", champion_of(str(one.place)), by="a")
    registry.add([first], "reject", champion_of(str(two.place)), by="a")
    done = collect(*three, keep=1, history=registry.history())
    assert done.kept == {str(one.place): "record 1 of the registry (promote)", str(last.place): "among the newest 1"}
    lacks_nothing(one)
    lacks_nothing(last)


def test_a_champion_that_its_run_went_past_stays_with_what_it_was_made_from(
    three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path
) -> None:
    one = three[0]
    registry = Registry(str(tmp_path / "registry"))
    registry.add([], "promote", champion_of(str(one.place)), by="a")
    notes = {stage: "f" * 64 for stage in STAGES}
    (one.place / "run.json").write_text(json.dumps(notes))
    age(one.place, 9)
    collect(one, keep=None, history=registry.history())
    assert sorted(path.parent.parent.name for path in one.place.rglob("manifest.json")) == [
        "ingest", "inject", "score", "train",
    ]  # fmt: skip


def test_stale_stages_and_scratch_go(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    last = three[2]
    shutil.copytree(last.directory("train"), last.place / "train" / "0123456789ab")
    checkpoints = last.directory("evaluate") / "work" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-1").write_bytes(bytes(500))
    done = collect(last, keep=None, grace=timedelta(0))
    assert {kind for kind in done.tally.kinds if not kind.startswith("store")} == {"stages", "work"}
    assert done.tally.kinds["work"].bytes == 500
    assert not (last.place / "train" / "0123456789ab").exists()
    assert not checkpoints.parent.exists()
    lacks_nothing(last)


def test_a_run_at_work_stays(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    one, two, last = three
    for run, hours in ((one, 1), (two, 25)):
        work = run.place / "train" / "0123456789ab" / "work"
        work.mkdir(parents=True)
        (work / "checkpoint").write_bytes(b"x")
        then = time.time() - hours * DAY / 24
        os.utime(work / "checkpoint", (then, then))
    done = collect(*three, keep=1)
    assert done.kept == {str(one.place): "at work", str(last.place): "among the newest 1"}
    assert (one.place / "train" / "0123456789ab" / "work" / "checkpoint").exists()
    lacks_nothing(one)


def test_what_was_written_lately_stays(three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path) -> None:
    age(tmp_path / "store", 0)
    done = collect(*three, keep=1)
    assert not [kind for kind in done.tally.kinds if kind.startswith("store")]


def test_a_run_that_was_not_named_is_kept(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    one, two, last = three
    shutil.copytree(one.directory("train"), one.place / "train" / "0123456789ab")
    done = collect(two, last, keep=1, grace=timedelta(0))
    assert done.kept == {str(one.place): "not named", str(last.place): "among the newest 1"}
    assert done.runs == [str(two.place)]
    assert (one.place / "train" / "0123456789ab").exists(), "nothing of it is touched"
    shutil.rmtree(one.place / "train" / "0123456789ab")
    lacks_nothing(one)


def test_a_run_that_is_gone_reaches_nothing_and_its_note_goes(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    one, two, last = three
    shutil.rmtree(one.place)
    collect(two, last, keep=2)
    assert len(list((Path(last.store.path("runs"))).iterdir())) == 2
    lacks_nothing(last)


def test_the_store_is_left_alone_while_other_machines_use_it(
    three: tuple[MadeRun, MadeRun, MadeRun], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    note_user(three[2].store, Storage(str(tmp_path / "far")))
    monkeypatch.undo()
    before = snapshot(tmp_path / "store")
    done = collect(*three, keep=1)
    assert "far on elsewhere" in done.left_alone
    assert snapshot(tmp_path / "store") == before
    assert len(done.runs) == 2


def test_a_run_that_a_kept_one_starts_from_stays(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    one, _, last = three
    config = last.place / "logs" / "ingest" / "config.yaml"
    config.write_text(config.read_text().replace("init_from: null", f"init_from: {one.place}"))
    done = collect(*three, keep=1)
    assert done.kept[str(one.place)] == f"{last.place} is made from its model"
    lacks_nothing(one)


def test_a_run_whose_needs_cannot_be_told_protects_the_store(
    three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path
) -> None:
    new = tmp_path / "run new" / "ingest" / "0123456789ab" / "work"
    new.mkdir(parents=True)
    (new / "receipt").write_bytes(b"")
    note_user(three[0].store, Storage(str(tmp_path / "run new")))
    done = collect(*three, keep=1)
    assert done.left_alone.startswith("it cannot be told yet what")
    assert not [kind for kind in done.tally.kinds if kind.startswith("store")]


def test_a_run_that_has_not_planned_yet_keeps_the_rows_of_its_pairs(tmp_path: Path) -> None:
    old = aged(make_run(tmp_path, "old", [*SHARED, *distinct(2, start=40)]), 5)
    new = aged(make_run(tmp_path, "new", SHARED, fresh=True), 3)
    age(tmp_path / "store", 3)
    collect(old, new)
    left = [old.store.read_table(name) for name in old.store.files("inverted") if name.endswith("parquet")]
    assert set(pa.concat_tables(left)["pair_id"].to_pylist()) == {pair["pair_id"] for pair in new.pairs}


def test_peoples_votes_and_foreign_files_stay(three: tuple[MadeRun, MadeRun, MadeRun]) -> None:
    one = three[0]
    for name in ("human/0123456789ab/key.json", "notes.txt", "train/mine/keep.txt"):
        (one.place / name).parent.mkdir(parents=True, exist_ok=True)
        (one.place / name).write_text("mine")
    collect(*three, keep=1)
    assert sorted(path.relative_to(one.place).as_posix() for path in one.place.rglob("*") if path.is_file()) == [
        "human/0123456789ab/key.json", "notes.txt", "train/mine/keep.txt",
    ]  # fmt: skip


def test_a_damaged_manifest_of_a_kept_run_stops_it_before_anything_goes(
    three: tuple[MadeRun, MadeRun, MadeRun], tmp_path: Path
) -> None:
    (three[2].directory("ingest") / "manifest.json").write_text("{")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        collect(*three, keep=1)
    assert snapshot(tmp_path) == before
