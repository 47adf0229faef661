import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest

from prefopt.config import RunConfig
from prefopt.data.ids import image_id, pair_id, prompt_place
from prefopt.data.schema import IMAGES, PAIRS, QUARANTINE, QUARANTINE_REASONS, VOTES
from prefopt.errors import InputError
from prefopt.stages.base import StageOutput
from prefopt.world.dataset import write_dataset
from tests.kit.data import (
    StopAfter,
    StopAfterError,
    distinct,
    fingerprint,
    huge_png,
    judgement,
    picture,
    run_stages,
    small_config,
    table,
    write_parquet,
)
from tests.kit.s3 import BUCKET, object_store

PICKAPIC = {"kind": "pickapic"}


def ingest(place: Path, rows: list[dict[str, Any]], **branches: Any) -> StageOutput:
    """Ingest rows in the Pick-a-Pic schema."""
    source = {**PICKAPIC, "path": str(write_parquet(place / "data" / "x.parquet", rows))}
    return run_stages(small_config(place, [source], **branches), place / "run")["ingest"]


def refused(output: StageOutput) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for row in table(output, "quarantine"):
        reasons[row["reason"]] += row["votes"]
    return reasons


def splits(output: StageOutput) -> dict[str, str]:
    return {row["pair_id"]: row["split"] for row in table(output, "pairs-")}


def prompts_of(split: str, count: int, place: Path) -> list[str]:
    """The first prompts that the split rule sends to a split."""
    from prefopt.data.canonical import split_of

    rule = small_config(place, [{**PICKAPIC, "path": "x"}]).ingest.split
    found = (f"prompt {n}" for n in range(10_000))
    return [prompt for prompt in found if split_of(prompt, rule) == split][:count]


def test_tables_are_canonical(tmp_path: Path) -> None:
    output = ingest(tmp_path, distinct(40))
    pairs, votes, images = (table(output, kind) for kind in ("pairs-", "votes-", "images-"))
    for kind, schema in (("pairs-", PAIRS), ("votes-", VOTES), ("images-", IMAGES), ("quarantine", QUARANTINE)):
        (file,) = output.manifest.files_like(kind)
        assert output.storage.read_table(file).schema == schema
    assert len(pairs) == len(votes) == 40
    assert [row["pair_id"] for row in pairs] == sorted(row["pair_id"] for row in pairs)
    assert [(row["pair_id"], row["vote_id"]) for row in votes] == sorted((v["pair_id"], v["vote_id"]) for v in votes)
    labels = {row["pair_id"]: row["label"] for row in votes}
    for row in pairs:
        number = row["source_row"]
        given = [image_id(picture(2 * number)), image_id(picture(2 * number + 1))]
        assert [row["image_0"], row["image_1"]] == sorted(given)
        assert row["pair_id"] == pair_id(f"prompt {number}", *given)
        wins = float(number % 3 != 0)
        assert labels[row["pair_id"]] == (wins if row["image_0"] == given[0] else 1.0 - wins)
    assert [row["image_id"] for row in images] == sorted(image_id(picture(n)) for n in range(80))
    assert {(row["width"], row["height"], row["file"], row["source"]) for row in images} == {(16, 16, "x.parquet", 0)}
    assert all(row["bytes"] == len(picture(0)) or row["bytes"] > 0 for row in images)
    assert output.manifest.rows.model_dump() == {"in_": 40, "out": 40, "quarantined": 0}
    assert output.manifest.summary["pairs"] == 40


def test_the_other_way_round_is_the_same_pair(tmp_path: Path) -> None:
    rows = [judgement("a", 1, 2, 1.0, "ann"), judgement("a", 2, 1, 0.0, "bob"), judgement("a", 2, 1, 1.0, "eve")]
    output = ingest(tmp_path, rows)
    assert len(table(output, "pairs-")) == 1
    labels = {row["annotator"]: row["label"] for row in table(output, "votes-")}
    assert labels["ann"] == labels["bob"] == 1.0 - labels["eve"]


def test_the_image_that_was_shown_first_is_kept(tmp_path: Path) -> None:
    rows = [judgement("a", 1, 2, 1.0, "ann"), judgement("a", 2, 1, 1.0, "bob")]
    votes = {row["annotator"]: row for row in table(ingest(tmp_path, rows), "votes-")}
    first = int(image_id(picture(1)) > image_id(picture(2)))
    assert (votes["ann"]["shown_first"], votes["bob"]["shown_first"]) == (first, 1 - first)
    assert all(row["label"] == 1.0 - row["shown_first"] for row in votes.values()), "both named the first"


def test_categories_belong_to_pairs(tmp_path: Path) -> None:
    rows = [judgement("a", 1, 2, 1.0, topic="art"), judgement("a", 1, 2, 1.0, topic="late"), judgement("b", 3, 4, 1.0)]
    source = {**PICKAPIC, "path": str(write_parquet(tmp_path / "x.parquet", rows)), "category_column": "topic"}
    output = run_stages(small_config(tmp_path, [source]), tmp_path / "run")["ingest"]
    assert {row["prompt"]: row["category"] for row in table(output, "pairs-")} == {"a": "art", "b": ""}


def test_pairs_of_several_sources_are_counted(tmp_path: Path) -> None:
    sources = []
    for name, numbers in (("x", (0, 1)), ("y", (1, 2))):
        rows = [judgement(f"prompt {n}", n, 10 + n, 1.0, f"{name} {n}") for n in numbers] * 2
        sources.append({**PICKAPIC, "path": str(write_parquet(tmp_path / f"{name}.parquet", rows))})
    output = run_stages(small_config(tmp_path, sources), tmp_path / "run")["ingest"]
    assert output.manifest.summary["pairs_in_several_sources"] == 1
    assert output.manifest.summary["pairs"] == 3


def test_a_vote_delivered_twice_counts_once(tmp_path: Path) -> None:
    twice = judgement("a", 1, 2, 1.0, "ann", ranking_id=7)
    rows = [twice, judgement("a", 2, 1, 0.0, "ann", ranking_id=7), judgement("a", 1, 2, 1.0, "ann", ranking_id=8)]
    output = ingest(tmp_path, rows)
    assert len(table(output, "votes-")) == 2
    assert refused(output) == {"duplicate_vote": 1}
    assert output.manifest.rows.model_dump() == {"in_": 3, "out": 2, "quarantined": 1}


def test_anonymous_votes_are_all_different(tmp_path: Path) -> None:
    output = ingest(tmp_path, [judgement("a", 1, 2, 1.0)] * 3)
    votes = table(output, "votes-")
    assert len(votes) == 3
    assert all(vote["latest"] for vote in votes)


def test_counts_of_one_pair_in_two_rows_are_all_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(picture(ord(name)))
    rows = [
        {"p": "x", "a": "a.png", "b": "b.png", "m": 2, "n": 1},
        {"p": "x", "a": "b.png", "b": "a.png", "m": 2, "n": 0},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"shape": "counts", "prompt": "p", "image_0": "a", "image_1": "b", "wins_0": "m", "wins_1": "n"}
    source = {"kind": "table", "path": str(tmp_path / "t.jsonl"), "columns": columns}
    output = run_stages(small_config(tmp_path, [source]), tmp_path / "run")["ingest"]
    (pair,) = table(output, "pairs-")
    wins_a = sum(
        v["label"] if pair["image_0"] == image_id(picture(97)) else 1 - v["label"] for v in table(output, "votes-")
    )
    assert (len(table(output, "votes-")), wins_a) == (5, 2)


@pytest.mark.parametrize(
    ("times", "last"), [((None, None), 1), (("2024-01-02", "2024-01-01"), 0), ((9, 10), 1), ((10, 9), 0)]
)
def test_an_annotator_who_contradicts_himself_is_kept_and_his_latest_vote_counts(
    tmp_path: Path, times: tuple[Any, Any], last: int
) -> None:
    labels = (1.0, 0.0)
    rows = [judgement("a", 1, 2, label, "ann", created_at=t) for label, t in zip(labels, times, strict=True)]
    output = ingest(tmp_path, [*rows, judgement("a", 1, 2, 1.0, "bob")])
    votes = table(output, "votes-")
    in_order = table(output, "pairs-")[0]["image_0"] == image_id(picture(1))
    (latest,) = [vote for vote in votes if vote["annotator"] == "ann" and vote["latest"]]
    assert len(votes) == 3
    assert latest["label"] == (labels[last] if in_order else 1.0 - labels[last])
    assert output.manifest.summary["votes_contradicted"] == 1
    assert output.manifest.rows.quarantined == 0


def test_returning_to_an_earlier_opinion_is_the_latest_vote(tmp_path: Path) -> None:
    output = ingest(tmp_path, [judgement("a", 1, 2, label, "ann") for label in (1.0, 0.0, 1.0)])
    in_order = table(output, "pairs-")[0]["image_0"] == image_id(picture(1))
    (latest,) = [vote for vote in table(output, "votes-") if vote["latest"]]
    assert latest["label"] == (1.0 if in_order else 0.0)


def test_every_fault_has_its_reason(tmp_path: Path) -> None:
    cut = picture(3, 64, "JPEG")
    faults = {
        "bad_image": [judgement("a", b"junk", 2, 1.0), judgement("a", cut[:-40], 2, 1.0), judgement("a", 2, 2, 1.0)],
        "image_too_large": [judgement("a", huge_png(), 2, 1.0)],
        "empty_prompt": [judgement(" ", 1, 2, 1.0)],
        "prompt_too_long": [judgement("x" * 100_000, 1, 2, 1.0)],
        "bad_label": [judgement("a", 1, 2, 1.5), judgement("a", 1, 2, float("nan")), judgement("a", 1, 2, -0.5)],
        "missing_field": [judgement(None, 1, 2, 1.0), judgement("a", None, 2, 1.0), judgement("a", 1, 2, None)],
        "duplicate_vote": [judgement("same", 8, 9, 1.0, "x"), judgement("same", 8, 9, 1.0, "x")],
    }
    rows = [row for some in faults.values() for row in some]
    output = ingest(tmp_path, [*rows, *distinct(3, start=20)])
    counts = {reason: len(some) for reason, some in faults.items()}
    counts["duplicate_vote"] = 1
    assert refused(output) == counts
    assert {*counts, "withdrawn"} == set(QUARANTINE_REASONS)
    assert {f"quarantined_{reason}": n for reason, n in counts.items()}.items() <= output.manifest.summary.items()
    places = {row["source_row"]: row for row in table(output, "quarantine")}
    assert places[0]["source_file"] == "x.parquet"
    assert "jpg_0" in places[0]["detail"]
    assert output.manifest.rows.model_dump() == {"in_": 17, "out": 4, "quarantined": 13}
    used = {row[side] for row in table(output, "pairs-") for side in ("image_0", "image_1")}
    assert {row["image_id"] for row in table(output, "images-")} == used


def test_an_image_in_two_splits_pulls_its_chain_to_test(tmp_path: Path) -> None:
    train = prompts_of("train", 6, tmp_path)
    (held,) = prompts_of("validation", 1, tmp_path)
    rows = [
        judgement(train[0], 1, 2, 1.0), judgement(held, 2, 3, 1.0),
        judgement(train[1], 1, 4, 1.0), judgement(train[2], 4, 5, 1.0), judgement(train[3], 5, 6, 1.0),
        judgement(train[4], 7, 8, 1.0), judgement(train[5], 8, 9, 1.0),
    ]  # fmt: skip
    output = ingest(tmp_path, rows)
    found = {row["prompt"]: row["split"] for row in table(output, "pairs-")}
    assert [found[prompt] for prompt in (*train[:4], held)] == ["test"] * 5
    assert [found[prompt] for prompt in train[4:]] == ["train"] * 2
    assert output.manifest.summary["pairs_moved_to_test"] == 5


def test_no_image_is_in_two_splits(tmp_path: Path) -> None:
    rows = [judgement(f"prompt {n}", n % 23, 100 + n, 1.0) for n in range(60)]
    output = ingest(tmp_path, rows)
    where: dict[str, set[str]] = {}
    for row in table(output, "pairs-"):
        for side in ("image_0", "image_1"):
            where.setdefault(row[side], set()).add(row["split"])
    assert {len(some) for some in where.values()} == {1}


def test_splits_do_not_move_when_rows_are_added(tmp_path: Path) -> None:
    few = splits(ingest(tmp_path / "few", distinct(40)))
    many = splits(ingest(tmp_path / "many", distinct(30, start=100) + distinct(40)))
    assert len(many) == 70
    assert few.items() <= many.items()
    assert set(few.values()) == {"train", "validation", "test"}


def test_the_limit_takes_the_first_prompts_in_hash_order(tmp_path: Path) -> None:
    rows = distinct(40) + [judgement(f"prompt {n}", 200 + n, 300 + n, 1.0) for n in range(40)]
    first = sorted((f"prompt {n}" for n in range(40)), key=prompt_place)[:7]
    one = ingest(tmp_path / "one", rows, limit=7)
    assert {row["prompt"] for row in table(one, "pairs-")} == set(first)
    assert len(table(one, "pairs-")) == 14
    other = ingest(tmp_path / "other", list(reversed(rows)), limit=7, ingest={"unit_rows": 3})
    assert {row["prompt"] for row in table(other, "pairs-")} == set(first)
    assert ingest(tmp_path / "all", rows, limit=1000).manifest.rows.out == 80


def world(place: Path, **cluster: Any) -> RunConfig:
    """A config on the embedded world's data, in several files and units."""
    if not (place / "data").exists():
        write_dataset(place / "data", pairs=60, seed=3, rows_per_file=40, row_group_rows=5)
    source = {**PICKAPIC, "path": str(place / "data"), "group_column": "user_group"}
    return small_config(place, [source], cluster=cluster, ingest={"sources": [source], "unit_rows": 10})


def whole(place: Path, **cluster: Any) -> dict[str, Any]:
    """What an undisturbed run makes."""
    run_stages(world(place, **cluster), place / "run")
    return fingerprint(place / "run")


def test_tables_do_not_depend_on_the_workers(tmp_path: Path, ray_session: None) -> None:
    assert whole(tmp_path / "one") == whole(tmp_path / "two", engine="ray", workers=2)


def interrupted(config: RunConfig, run: Path, what: str, units: int) -> None:
    with pytest.raises(StopAfterError):
        run_stages(config, run, progress=StopAfter(what, units))
    assert not list(run.rglob("manifest.json"))


def test_an_interrupted_run_finishes_to_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path / "whole")
    config = world(tmp_path / "cut")
    run = tmp_path / "cut" / "run"
    for what, units in (("rows", 2), ("images", 1), ("pairs", 1)):
        interrupted(config, run, what, units)
    run_stages(config, run)
    assert fingerprint(run) == undisturbed
    assert not list(run.rglob("work"))


def test_lost_receipts_parts_and_manifest_are_made_again(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path / "whole")
    config = world(tmp_path / "cut")
    run = tmp_path / "cut" / "run"
    interrupted(config, run, "pairs", 1)
    (work,) = run.rglob("work")
    for receipt in sorted((work / "receipts" / "rows").iterdir())[::2]:
        receipt.unlink()
    for part in sorted((work / "votes").iterdir())[::2]:
        part.unlink()
    shutil.rmtree(work / "receipts" / "pairs")
    run_stages(config, run)
    assert fingerprint(run) == undisturbed
    (manifest,) = run.rglob("manifest.json")
    manifest.unlink()
    run_stages(config, run)
    assert fingerprint(run) == undisturbed


def test_done_work_is_skipped_and_damage_is_mended(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path)
    config = world(tmp_path)
    run_stages(config, tmp_path / "run", progress=StopAfter("rows", 0))
    run_dir = tmp_path / "run"
    (votes,) = run_dir.rglob("votes-00000.parquet")
    votes.write_bytes(b"short")
    run_stages(config, tmp_path / "run")
    assert fingerprint(tmp_path / "run") == undisturbed


def test_the_place_of_the_data_is_no_part_of_the_key(tmp_path: Path) -> None:
    one = ingest(tmp_path / "one", distinct(10)).manifest
    assert ingest(tmp_path / "two", distinct(10)).manifest.key == one.key
    assert ingest(tmp_path / "three", distinct(11)).manifest.key != one.key
    assert ingest(tmp_path / "four", distinct(10), ingest={"split": {"seed": 1}}).manifest.key != one.key
    assert ingest(tmp_path / "five", distinct(10), seed=5, name="other").manifest.key == one.key


def test_files_hold_no_place(tmp_path: Path) -> None:
    output = ingest(tmp_path / "somewhere", distinct(10))
    for name in output.storage.files():
        assert b"somewhere" not in output.storage.read_bytes(name)


def folder_source(place: Path) -> dict[str, Any]:
    (place / "images").mkdir(parents=True)
    for number in range(6):
        (place / "images" / f"{number}.png").write_bytes(picture(number))
    rows = [{"p": f"p {n}", "a": f"{n}.png", "b": f"{n + 1}.png", "y": 1.0} for n in range(5)]
    (place / "images" / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"shape": "vote", "prompt": "p", "image_0": "a", "image_1": "b", "label": "y"}
    return {"kind": "table", "path": str(place / "images" / "t.jsonl"), "columns": columns}


def test_images_beside_a_table_are_part_of_the_key(tmp_path: Path) -> None:
    config = small_config(tmp_path, [folder_source(tmp_path)])
    before = run_stages(config, tmp_path / "run")["ingest"]
    assert {row["row"] for row in table(before, "images-")} == {-1}
    (tmp_path / "images" / "3.png").write_bytes(picture(77))
    after = run_stages(config, tmp_path / "run")["ingest"]
    assert before.manifest.key != after.manifest.key
    assert image_id(picture(77)) in {row["image_id"] for row in table(after, "images-")}


def test_several_sources_meet(tmp_path: Path) -> None:
    other = {**PICKAPIC, "path": str(write_parquet(tmp_path / "more.parquet", distinct(8, start=50)))}
    config = small_config(tmp_path, [folder_source(tmp_path), other])
    output = run_stages(config, tmp_path / "run")["ingest"]
    assert output.manifest.rows.out == 13
    assert {row["source"] for row in table(output, "images-")} == {0, 1}


@pytest.mark.parametrize("rows", [[], [judgement("", 1, 2, 1.0), judgement("a", b"junk", 2, 1.0)]])
def test_nothing_left_is_refused_and_leaves_no_manifest(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    schema = pq.read_schema(write_parquet(tmp_path / "schema.parquet", distinct(1)))
    path = write_parquet(tmp_path / "x.parquet", rows or distinct(1))
    if not rows:
        pq.write_table(schema.empty_table(), path)
    config = small_config(tmp_path, [{**PICKAPIC, "path": str(path)}])
    with pytest.raises(
        InputError, match=r"All 2 rows were refused.*x\.parquet row 0: empty_prompt" if rows else "no rows"
    ):
        run_stages(config, tmp_path / "run")
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


def test_an_object_store_holds_the_data_the_store_and_the_run(tmp_path: Path, bucket: str) -> None:
    """The scan alone: what it leaves there for the tables."""
    from prefopt.data.storage import Storage
    from prefopt.distributed.scan import ScanRows, SourceDigest
    from prefopt.stages.ingest import _scan_units

    write_dataset(tmp_path / "data", pairs=8, seed=0)
    for path in (tmp_path / "data").iterdir():
        boto3.client("s3").upload_file(str(path), BUCKET, f"whole/{path.name}")
    config = small_config(tmp_path, [{**PICKAPIC, "path": f"{bucket}/whole"}])
    work, store = Storage(f"{bucket}/run/work"), Storage(f"{bucket}/store")
    digest = SourceDigest({path.name: "0" * 64 for path in (tmp_path / "data").iterdir()}, None)
    scan = ScanRows(config.ingest.sources, (digest,), config.ingest, work, store, None)
    receipts = [scan(unit.payload) for unit in _scan_units(config.ingest.sources, 100)]
    assert sum(receipt["votes"] for receipt in receipts) >= 8
    assert work.files("votes") == ["votes/00000.parquet"]
    assert work.read_table("votes/00000.parquet").num_rows == sum(receipt["votes"] for receipt in receipts)
