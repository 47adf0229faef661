"""forget, on runs and a store that were laid there: nothing of it stays, and all the rest does."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from prefopt.data.ids import image_id
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn, annotator_id, read_withdrawn
from prefopt.human.pairs import DrawnImage, make_key, read_key, write_key
from prefopt.registry import Registry, champion_of
from prefopt.retention.forget import Forgotten, forget
from prefopt.retention.runs import Run
from prefopt.stages.chain import Chain
from tests.kit.data import distinct, judgement, picture, quiet, table
from tests.kit.retention import MadeRun, all_whole, copies, holders, make_run, snapshot
from tests.kit.s3 import object_store

# a: two votes; b shares its prompt with a2, an image with c; the others stand alone
ROWS = [
    judgement("about a", 1, 2, 1.0, "anneliese"),
    judgement("about a", 1, 2, 0.0, "bobby"),
    judgement("about b", 3, 4, 1.0, "bobby"),
    judgement("about b", 5, 6, 1.0, "cid"),
    judgement("about c", 4, 7, 1.0, "cid"),
    *distinct(3, start=10),
]


def erase(made: MadeRun, *entries: str, runs: tuple[MadeRun, ...] = (), **how: Any) -> Forgotten:
    given = [Run.open(str(run.place)) for run in (made, *runs)]
    ids = [f"annotator#{annotator_id(one[10:])}" if one.startswith("annotator:") else one for one in entries]
    return forget(Withdrawn.of(ids), made.store, given, **how)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("made"), "run", ROWS)


@pytest.fixture
def made(template: MadeRun, tmp_path: Path) -> MadeRun:
    (found,) = copies([template], tmp_path)
    return found


def test_nothing_of_a_pair_stays_but_ids(made: MadeRun, tmp_path: Path) -> None:
    pair = made.pair("about a")
    done = erase(made, pair["pair_id"])
    assert (done.pairs, done.votes, done.images, done.prompts) == (1, 2, 2, 1)
    shutil.rmtree(tmp_path / "data-run")
    assert holders(tmp_path, "about a") == []
    assert [name for name in holders(tmp_path, pair["image_0"]) if "quarantine" not in name] == []
    left = holders(tmp_path, pair["pair_id"])
    assert all("quarantine" in name or name.startswith("store/withdrawn/") for name in left)
    assert holders(tmp_path, "anneliese") == [], "her only vote is gone"
    assert done.sources == {"x.parquet": [0, 1]}
    all_whole(made.place)


@pytest.mark.parametrize("owners", [True, False])
def test_rows_of_all_else_stay(tmp_path: Path, owners: bool) -> None:
    made = make_run(tmp_path, "run", ROWS, owners=owners)
    pair = made.pair("about a")
    before = snapshot(tmp_path / "store")
    erase(made, pair["pair_id"])
    after = snapshot(tmp_path / "store")
    for name, lost in (("x0", 4), ("rewards", 2), ("inverted", 4), ("references", 4), ("generated", 1)):
        for family in [path for path in before if path.startswith(f"{name}/") and not path.endswith(".json")]:
            assert set(after[family]) < set(before[family])
            assert len(before[family]) - len(after[family]) == lost, name
    others = {row["pair_id"] for row in made.pairs} - {pair["pair_id"]}
    for stage, file in (
        ("ingest", "pairs-00000"),
        ("ingest", "votes-00000"),
        ("inject", "labels-00000"),
        ("score", "scores-00000"),
        ("score", "visits-00000"),
        ("train", "minority"),
        ("evaluate", "accuracy-00000"),
    ):
        found = pq.read_table(made.directory(stage) / f"{file}.parquet")["pair_id"].to_pylist()
        assert set(found) == others, (stage, file)


def test_manifests_keep_their_keys_and_tell(made: MadeRun) -> None:
    keys = {
        stage: read_manifest(Storage(str(made.directory(stage)))) for stage in ("ingest", "inject", "score", "train")
    }
    erase(made, made.pair("about a")["pair_id"])
    for stage, before in keys.items():
        after = read_manifest(Storage(str(made.directory(stage))))
        assert (after.key, after.parents) == (before.key, before.parents)
        assert after.summary["forgotten_rows"] > 0  # type: ignore[operator]
    ingest = read_manifest(Storage(str(made.directory("ingest"))))
    assert ingest.rows.model_dump() == {"in_": 8, "out": 6, "quarantined": 2}
    assert (ingest.summary["pairs"], ingest.summary["quarantined_withdrawn"]) == (6, 2)
    assert read_manifest(Storage(str(made.directory("score")))).rows.model_dump() == {
        "in_": 7, "out": 6, "quarantined": 1,
    }  # fmt: skip
    train = read_manifest(Storage(str(made.directory("train"))))
    assert (train.rows.out, train.summary["forgotten_visits"]) == (16, 4)
    assert champion_of(str(made.place)).digest, "the model is what it was"


def test_cards_go_and_reports_lose_their_prompts(made: MadeRun) -> None:
    done = erase(made, made.pair("about a")["pair_id"])
    assert not (made.place / "card").exists() or not list((made.place / "card").iterdir())
    assert not (made.place / "data-card.html").exists()
    assert "card" not in json.loads((made.place / "run.json").read_text())
    assert any(name.endswith("data-card.html") for name in done.removed)
    for page in (made.place / "report.html", made.directory("evaluate") / "report.html"):
        assert "was removed" in page.read_text()


def test_what_other_pairs_share_stays(made: MadeRun, tmp_path: Path) -> None:
    (pair,) = [row for row in made.pairs if image_id(picture(3)) in (row["image_0"], row["image_1"])]
    done = erase(made, pair["pair_id"])
    assert (done.pairs, done.images, done.prompts) == (1, 1, 0), "image 4 and the prompt are of other pairs, too"
    assert (made.place / "report.html").read_text().count("about b") == 2
    assert any(name.startswith("store/x0") for name in holders(tmp_path, image_id(picture(4))))
    rewards = pq.read_table(made.directory("score") / "rewards-00000.parquet").to_pylist()
    assert [row["image_id"] for row in rewards].count(image_id(picture(4))) == 1, "as an image of c, not of b"


def test_an_image_takes_all_of_its_pairs(made: MadeRun, tmp_path: Path) -> None:
    done = erase(made, image_id(picture(4)))
    assert (done.pairs, done.votes, done.images, done.prompts) == (2, 2, 3, 1)
    shutil.rmtree(tmp_path / "data-run")
    assert holders(tmp_path, "about c") == []
    left = holders(tmp_path, image_id(picture(4)))
    assert [name for name in left if not name.startswith("store/withdrawn/")] == []


def test_a_persons_votes_go_and_the_pair_stays_while_somebody_else_voted(made: MadeRun, tmp_path: Path) -> None:
    done = erase(made, "annotator:bobby")
    assert (done.pairs, done.votes) == (1, 2)
    shutil.rmtree(tmp_path / "data-run")
    assert holders(tmp_path, "bobby") == []
    assert len(pq.read_table(made.directory("ingest") / "pairs-00000.parquet")) == 6
    labels = pq.read_table(made.directory("inject") / "labels-00000.parquet")["annotator"].to_pylist()
    assert labels.count("anneliese") == 1
    ingest = read_manifest(Storage(str(made.directory("ingest"))))
    assert ingest.rows.model_dump() == {"in_": 8, "out": 6, "quarantined": 2}


def test_a_dry_run_says_the_same_and_changes_nothing(made: MadeRun, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    planned = erase(made, made.pair("about a")["pair_id"], dry_run=True)
    assert snapshot(tmp_path) == before
    done = erase(made, made.pair("about a")["pair_id"])
    same = ("pairs", "votes", "images", "prompts", "scans", "rows", "removed", "sources", "models")
    assert {name: getattr(planned, name) for name in same} == {name: getattr(done, name) for name in same}
    assert {kind: removed.rows for kind, removed in planned.store.kinds.items()} == {
        kind: removed.rows for kind, removed in done.store.kinds.items()
    }


def test_a_second_call_finds_nothing_more(made: MadeRun, tmp_path: Path) -> None:
    pair = made.pair("about a")["pair_id"]
    erase(made, pair)
    before = snapshot(tmp_path)
    again = erase(made, pair)
    assert (again.pairs, again.votes, again.listed, again.rows) == (0, 0, None, {})
    assert snapshot(tmp_path) == before


def test_the_next_ingest_leaves_it_out(made: MadeRun) -> None:
    before = made.chain().directory("ingest").uri
    pair = made.pair("about a")
    erase(made, pair["pair_id"])
    chain = Chain(made.config, str(made.place), start_engine=lambda: None, progress=quiet)
    assert chain.directory("ingest").uri != before
    output = chain.run(["ingest"])[0].output
    assert pair["pair_id"] not in {row["pair_id"] for row in table(output, "pairs-")}
    assert output.manifest.rows.model_dump() == {"in_": 8, "out": 6, "quarantined": 2}
    read = json.loads((made.place / "logs" / "ingest" / "rows.json").read_bytes())
    assert read == {"read": 8, "known": 0}


def test_the_keys_of_other_data_stay(template: MadeRun, tmp_path: Path) -> None:
    (made,) = copies([template], tmp_path)
    other = make_run(tmp_path, "other", distinct(4, start=50))
    before = snapshot(other.place)
    erase(made, made.pair("about a")["pair_id"], runs=(other,))
    assert [outcome.skipped for outcome in other.chain().run(["ingest", "score", "card", "train", "evaluate"])] == [
        True
    ] * 5
    assert snapshot(other.place) == before


def test_a_pair_that_another_run_holds_is_erased_there_too(template: MadeRun, tmp_path: Path) -> None:
    (made,) = copies([template], tmp_path)
    other = make_run(tmp_path, "other", [*ROWS[:1], *distinct(4, start=50)])
    erase(made, made.pair("about a")["pair_id"], runs=(other,))
    for name in ("data-run", "data-other"):
        shutil.rmtree(tmp_path / name)
    assert holders(tmp_path, "about a") == []
    all_whole(other.place)


def test_models_are_listed_with_their_records_and_those_made_from_them(template: MadeRun, tmp_path: Path) -> None:
    (made,) = copies([template], tmp_path)
    clean = make_run(tmp_path, "clean", distinct(4, start=50), model="other")
    after = make_run(tmp_path, "after", distinct(4, start=60), model="third")
    for stage in ("ingest", "inject"):
        config = (after.place / "logs" / stage / "config.yaml").read_text()
        (after.place / "logs" / stage / "config.yaml").write_text(
            config.replace("init_from: null", f"init_from: {made.place}")
        )
    registry = Registry(str(tmp_path / "registry"))
    registry.add([], "promote", champion_of(str(made.place)), by="a")
    done = erase(made, made.pair("about a")["pair_id"], runs=(clean, after), history=registry.history())
    told = {Path(model.run).name: (model.visits, [Path(run).name for run in model.after], model.records)
            for model in done.models}  # fmt: skip
    assert told == {"run": (4, [], ["1 promote"]), "after": (None, ["run"], [])}
    again = erase(made, made.pair("about a")["pair_id"], runs=(clean, after))
    assert [model.visits for model in again.models] == [4, None], "what was forgotten earlier is still said"


def test_an_unfinished_stage_that_holds_it_goes(made: MadeRun) -> None:
    pair = made.pair("about a")
    for number, ids in enumerate(([pair["pair_id"]], [made.pair("about c")["pair_id"]])):
        place = made.place / "train" / f"{number:012x}" / "work"
        Storage(str(place)).write_table("plan.parquet", pq.read_table(made.directory("score") / "visits-00000.parquet")
                                        .slice(0, 1).set_column(2, "pair_id", [ids]))  # fmt: skip
    done = erase(made, pair["pair_id"])
    assert not (made.place / "train" / "000000000000").exists()
    assert (made.place / "train" / "000000000001").exists()
    assert f"{made.place}/train/000000000000" in done.removed


def test_prompts_that_people_were_shown_leave_the_key(made: MadeRun) -> None:
    drawn = [DrawnImage(prompt_id=f"{n:032x}", prompt=text, sample=0) for n, text in enumerate(("about a", "about c"))]
    place = Storage(str(made.place / "human" / "0123456789ab"))
    write_key(place, make_key(drawn, ["base", "tuned"], "e" * 64, 0))
    erase(made, made.pair("about a")["pair_id"])
    assert {pair.drawn.prompt for pair in read_key(place).pairs.values()} == {"about c"}


class _CrashError(Exception):
    """Stands for a kill."""


def crash_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """Let a process die after so many changes of files."""
    left = [count]

    def limited(method: Any) -> Any:
        def called(self: Storage, *args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise _CrashError
            return method(self, *args, **options)

        return called

    patch.setattr(Storage, "open_output", limited(Storage.open_output))
    patch.setattr(Storage, "delete", limited(Storage.delete))


def test_a_crash_at_any_point_loses_nothing_and_a_second_call_finishes(template: MadeRun, tmp_path: Path) -> None:
    (made,) = copies([template], tmp_path / "made")
    pair = made.pair("about a")
    others = {row["pair_id"] for row in made.pairs} - {pair["pair_id"]}
    store_before = snapshot(tmp_path / "made" / "store")

    def copied(name: str) -> MadeRun:
        shutil.copytree(tmp_path / "made", tmp_path / name)
        return MadeRun(tmp_path / name / "run", made.config, Storage(str(tmp_path / name / "store")), [], [])

    whole = copied("whole")
    erase(whole, image_id(picture(1)))
    wanted = snapshot(tmp_path / "whole")
    for number in range(0, 200, 7):
        found = copied("cut")
        with pytest.MonkeyPatch.context() as patch:
            crash_after(patch, number)
            try:
                erase(found, image_id(picture(1)))
                break
            except _CrashError:
                pass
        for file in (tmp_path / "cut" / "run").rglob("pairs-*.parquet"):
            assert others <= set(pq.read_table(file)["pair_id"].to_pylist())
        lost = {
            row
            for name, rows in store_before.items()
            if isinstance(rows, list)
            for row in set(rows) - set(snapshot(tmp_path / "cut" / "store").get(name, []))
        }
        kept = {key for rows in wanted.values() if isinstance(rows, list) for key in rows}
        assert not lost & kept, "rows of others stay readable at every moment"
        erase(found, image_id(picture(1)))
        assert snapshot(tmp_path / "cut") == wanted, number
        all_whole(tmp_path / "cut" / "run")
        shutil.rmtree(tmp_path / "cut")
    else:
        pytest.fail("there are more steps than were tried")


def test_runs_and_stores_on_an_object_store_are_rewritten_alike(made: MadeRun, tmp_path: Path) -> None:
    pair = made.pair("about a")["pair_id"]
    with object_store() as root:
        uri = f"{root}/forget"
        bucket = Storage(uri)
        for place in ("run", "store"):
            for name in Storage(str(tmp_path / place)).files():
                bucket.write_bytes(f"{place}/{name}", (tmp_path / place / name).read_bytes())
        bucket.write_bytes("w.txt", f"{pair}\n".encode())
        forget(read_withdrawn(f"{uri}/w.txt"), bucket.child("store"), [Run.open(f"{uri}/run")])
        for place in ("run", "store"):
            for name in bucket.files(place):
                target = tmp_path / "fetched" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(bucket.read_bytes(name))
    erase(made, pair)
    for place in ("run", "store"):
        assert set(snapshot(tmp_path / "fetched" / place)) == set(snapshot(tmp_path / place))
        assert snapshot(tmp_path / "fetched" / place) == snapshot(tmp_path / place)
    all_whole(tmp_path / "fetched" / "run")
