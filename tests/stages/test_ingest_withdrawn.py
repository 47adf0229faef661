"""What is withdrawn leaves ingest's tables and is counted."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefopt.data.ids import image_id
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import add_to_store_list, annotator_id
from prefopt.errors import ConfigError, InputError
from prefopt.stages.base import StageOutput
from tests.kit.data import distinct, fingerprint, judgement, picture, run_stages, small_config, table, write_parquet


def ingest(place: Path, withdrawn: list[str] | None = None, run: str = "run", rows: Any = None) -> StageOutput:
    """Ingest; six distinct pairs, and a second vote on the first, unless other rows are given."""
    path = place / "data" / "x.parquet"
    if not path.exists():
        write_parquet(path, rows or [*distinct(6), judgement("prompt 0", 0, 1, 0.0, "bob")])
    branches: dict[str, Any] = {}
    if withdrawn is not None:
        (place / "w.txt").write_text("\n".join(withdrawn))
        branches["ingest"] = {"withdrawn": str(place / "w.txt")}
    config = small_config(place, [{"kind": "pickapic", "path": str(place / "data")}], **branches)
    return run_stages(config, place / run)["ingest"]


def pair_of(output: StageOutput, prompt: str) -> dict[str, Any]:
    (found,) = [row for row in table(output, "pairs-") if row["prompt"] == prompt]
    return found


def gone(output: StageOutput) -> list[dict[str, Any]]:
    return [row for row in table(output, "quarantine") if row["reason"] == "withdrawn"]


def counts(output: StageOutput) -> tuple[int, int, int]:
    return tuple(output.manifest.rows.model_dump().values())  # type: ignore[return-value]


def test_a_withdrawn_pair_leaves_every_table_and_nothing_of_it_stays(tmp_path: Path) -> None:
    before = ingest(tmp_path)
    pair = pair_of(before, "prompt 0")
    after = ingest(tmp_path, [pair["pair_id"]])
    assert after.manifest.key != before.manifest.key
    assert counts(before) == (7, 7, 0)
    assert counts(after) == (7, 5, 2)
    assert after.manifest.summary["quarantined_withdrawn"] == 2
    assert after.manifest.summary["pairs"] == 5
    assert [(row["source_file"], row["source_row"], row["votes"]) for row in gone(after)] == [
        ("x.parquet", 0, 1),
        ("x.parquet", 6, 1),
    ]
    assert {row["detail"] for row in gone(after)} == {f"pair {pair['pair_id']} is withdrawn"}
    assert {pair["image_0"], pair["image_1"]}.isdisjoint(row["image_id"] for row in table(after, "images-"))
    assert pair["pair_id"] not in {row["pair_id"] for kind in ("pairs-", "votes-") for row in table(after, kind)}
    for name in after.storage.files():
        assert b"prompt 0" not in after.storage.read_bytes(name)


def test_a_withdrawn_image_takes_every_pair_with_it(tmp_path: Path) -> None:
    rows = [judgement("a", 1, 2, 1.0), judgement("b", 2, 3, 1.0), judgement("c", 4, 5, 1.0)]
    output = ingest(tmp_path, [image_id(picture(2))], rows=rows)
    assert [row["prompt"] for row in table(output, "pairs-")] == ["c"]
    assert {row["image_id"] for row in table(output, "images-")} == {image_id(picture(n)) for n in (4, 5)}
    assert all(image_id(picture(2)) in row["detail"] for row in gone(output))


def test_a_withdrawn_annotators_votes_go_and_other_votes_on_the_pair_stay(tmp_path: Path) -> None:
    output = ingest(tmp_path, ["annotator:user 0"])
    assert Counter(row["annotator"] for row in table(output, "votes-")) == {"user 1": 2, "user 2": 2, "bob": 1}
    assert {row["prompt"] for row in table(output, "pairs-")} == {f"prompt {n}" for n in (0, 1, 2, 4, 5)}
    assert counts(output) == (7, 5, 2)
    for name in output.storage.files():
        assert b"user 0" not in output.storage.read_bytes(name)


def test_the_key_stays_without_a_list_and_with_an_empty_one(tmp_path: Path) -> None:
    before = fingerprint_of(tmp_path, None)
    assert fingerprint_of(tmp_path, ["# nothing"]) == before
    assert fingerprint_of(tmp_path, ["0" * 32]) != before


def fingerprint_of(place: Path, withdrawn: list[str] | None) -> dict[str, Any]:
    return {ingest(place, withdrawn).manifest.key: 0}


@pytest.mark.parametrize("order", [("some", "more", "none", "some"), ("more", "none", "some", "more")])
def test_the_tables_do_not_depend_on_what_was_withdrawn_before(tmp_path: Path, order: tuple[str, ...]) -> None:
    ids = {row["prompt"]: row["pair_id"] for row in table(ingest(tmp_path / "first"), "pairs-")}
    lists = {"none": None, "some": [ids["prompt 0"]], "more": [ids["prompt 0"], "annotator:user 2", ids["prompt 3"]]}
    for number, name in enumerate(order):
        ingest(tmp_path / "used", lists[name], f"run {number}")
        ingest(tmp_path / f"fresh {number}", lists[name])
        assert fingerprint(tmp_path / "used" / f"run {number}") == fingerprint(tmp_path / f"fresh {number}" / "run")


def test_what_was_withdrawn_when_rows_were_read_is_not_remembered(tmp_path: Path) -> None:
    pair = pair_of(ingest(tmp_path / "first"), "prompt 4")
    ingest(tmp_path / "second", [pair["pair_id"]])
    store = Storage(str(tmp_path / "second" / "store"))
    assert store.files("scanned")
    for name in store.files("scanned"):
        assert b"prompt 4" not in store.read_bytes(name)


def test_what_the_store_forgot_is_left_out_and_is_part_of_the_key_where_it_had_rows(tmp_path: Path) -> None:
    before = ingest(tmp_path)
    pair, store = pair_of(before, "prompt 0")["pair_id"], Storage(str(tmp_path / "store"))
    (file,) = table(before, "sources")
    ann = f"annotator#{annotator_id('nobody here')}"
    add_to_store_list(store, {ann: ["0" * 64]})
    assert ingest(tmp_path).manifest.key == before.manifest.key
    add_to_store_list(store, {pair: [file["sha256"]]})
    after = ingest(tmp_path)
    assert after.manifest.key != before.manifest.key
    assert counts(after) == (7, 5, 2)
    as_file = ingest(tmp_path / "elsewhere", [pair])
    assert as_file.manifest.key == after.manifest.key, "who withdrew it does not matter"


def test_what_comes_back_in_a_new_file_is_left_out_too(tmp_path: Path) -> None:
    pair, store = pair_of(ingest(tmp_path / "first"), "prompt 0")["pair_id"], Storage(str(tmp_path / "store"))
    add_to_store_list(store, {pair: []})
    assert counts(ingest(tmp_path)) == (7, 5, 2)


def test_all_withdrawn_is_nothing_left(tmp_path: Path) -> None:
    everybody = [f"annotator:{name}" for name in ("user 0", "user 1", "user 2", "bob")]
    with pytest.raises(InputError, match=r"All 7 rows were refused.*row 0: withdrawn"):
        ingest(tmp_path, everybody)


def test_a_bad_list_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"w\.txt line 1: 'what' is no id"):
        ingest(tmp_path, ["what"])
    with pytest.raises(ConfigError, match=r"ingest\.withdrawn.*\.txt or \.csv"):
        small_config(tmp_path, [], ingest={"withdrawn": "w.json"})
