import hashlib
import os
import struct

import numpy as np
import pytest

from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError, StorageError
from prefopt.human import export
from prefopt.human.export import COLUMNS, Selection, clean_png, export_pairs
from prefopt.human.pairs import human_directory, read_key
from tests.kit.human import drawn_png, evaluation, exported, model_of, rows_of


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """2,000 pairs, a fifth of them repeated."""
    place = tmp_path_factory.mktemp("many")
    output = evaluation(place / "stage", prompts=500, samples=4)
    made, rows = exported(output, place, Selection(repeat_share=0.2))
    key = read_key(human_directory(Storage(str(place / "run")), output.manifest.key))
    return place, made, rows, key


def chunks(png):
    place, found = 8, []
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append(png[place + 4 : place + 8].decode())
        place += 12 + length
    return found


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_key_tells_which_model_drew_each_side(many):
    place, made, rows, key = many
    assert (made.pairs, made.repeats, len(rows)) == (2000, 400, 2400)
    for row in rows:
        pair = key.pairs[row["pair_id"]]
        sides = [model_of((place / "pairs" / row[side]).read_bytes()) for side in ("left", "right")]
        assert sides == [pair.left, pair.right]
        assert row["prompt"] == pair.drawn.prompt


def test_nothing_outside_the_pixels_tells_the_model(many):
    place, _made, rows, key = many
    files = contents(place / "pairs")
    assert set(files) == {"pairs.csv", "README.txt", "instructions.txt"} | {
        row[side] for row in rows for side in ("left", "right")
    }
    for name, data in files.items():
        for word in ("base", "tuned", key.evaluation[:12]):
            assert word not in name
            assert word.encode() not in data
        if name.endswith(".png"):
            assert set(chunks(data)) == {"IHDR", "IDAT", "IEND"}
    tuned_left = np.array([key.pairs[row["pair_id"]].left == "tuned" for row in rows], dtype=float)
    told = {
        "row": np.arange(len(rows)),
        "order of files": [row["left"] < row["right"] for row in rows],
        "pair_id": [int(row["pair_id"][:8], 16) for row in rows],
        "left": [int(row["left"][7:15], 16) for row in rows],
        "right": [int(row["right"][7:15], 16) for row in rows],
    }
    for name, values in told.items():
        assert abs(np.corrcoef(tuned_left, np.asarray(values, dtype=float))[0, 1]) < 4 / np.sqrt(len(rows)), name
    first = [tuned for tuned, row in zip(tuned_left, rows, strict=True) if key.pairs[row["pair_id"]].repeats is None]
    assert abs(np.mean(first) - 0.5) < 4 * 0.5 / np.sqrt(2000)
    assert len({path.stat().st_mtime for path in (place / "pairs").rglob("*")}) == 1
    assert list(rows[0]) == list(COLUMNS)
    assert {(row["annotator_id"], row["choice"]) for row in rows} == {("", "")}
    assert not (place / "pairs").joinpath("key.json").exists()


def test_repetitions_swap_sides_and_share_no_name(many):
    place, _made, rows, key = many
    shown = {row["pair_id"]: row for row in rows}
    repeats = [row for row in rows if key.pairs[row["pair_id"]].repeats]
    for row in repeats:
        before = shown[key.pairs[row["pair_id"]].repeats]
        assert before["prompt"] == row["prompt"]
        left = (place / "pairs" / row["left"]).read_bytes()
        assert left == (place / "pairs" / before["right"]).read_bytes()
    names = [row[side] for row in rows for side in ("left", "right")]
    assert len(set(names)) == len(names)
    later = [row["pair_id"] for row in rows].index
    assert 0.4 < np.mean([later(row["pair_id"]) > later(key.pairs[row["pair_id"]].repeats) for row in repeats]) < 0.6


def test_the_same_inputs_give_the_same_bytes_and_fewer_pairs_are_among_more(tmp_path):
    output = evaluation(tmp_path / "stage", prompts=20)
    _, all_rows = exported(output, tmp_path)
    key = human_directory(Storage(str(tmp_path / "run")), output.manifest.key).read_bytes("key.json")
    exported(output, tmp_path, folder="again")
    assert contents(tmp_path / "pairs") == contents(tmp_path / "again")
    assert human_directory(Storage(str(tmp_path / "run")), output.manifest.key).read_bytes("key.json") == key
    made, few = exported(output, tmp_path, Selection(pairs=5, repeat_share=0.4), folder="few")
    assert (made.pairs, made.repeats) == (5, 2)
    ids = {row["pair_id"] for row in few}
    assert len(ids & {row["pair_id"] for row in all_rows}) == 5
    assert contents(tmp_path / "few").keys() != contents(tmp_path / "pairs").keys()


def test_another_evaluation_or_seed_gives_other_ids_and_names(tmp_path):
    first = exported(evaluation(tmp_path / "a", key="a" * 64), tmp_path, folder="first")[1]
    other = exported(evaluation(tmp_path / "b", key="b" * 64), tmp_path, folder="other")[1]
    names = [{row[column] for row in rows for column in ("pair_id", "left", "right")} for rows in (first, other)]
    assert not names[0] & names[1]


def test_each_other_model_is_paired_with_the_first(tmp_path):
    models = ("base", "tuned", "third")
    output = evaluation(tmp_path / "stage", models=models)
    made, rows = exported(output, tmp_path, models=models)
    key = read_key(human_directory(Storage(str(tmp_path / "run")), output.manifest.key))
    found = sorted(sorted((key.pairs[row["pair_id"]].left, key.pairs[row["pair_id"]].right)) for row in rows)
    assert found == [["base", "third"]] * 6 + [["base", "tuned"]] * 6
    assert made.models == models
    assert len({row[side] for row in rows for side in ("left", "right")}) == 24


def test_a_prompt_set_can_be_chosen(tmp_path):
    output = evaluation(tmp_path / "stage", prompts=7)
    assert exported(output, tmp_path, Selection(prompt_set="odd"))[0].pairs == 3
    with pytest.raises(ConfigError, match=r"no prompt set 'other'.*even, odd"):
        exported(output, tmp_path, Selection(prompt_set="other"), folder="other")


def test_a_folder_in_use_is_left_alone(tmp_path):
    output = evaluation(tmp_path / "stage")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        exported(output, tmp_path)
    (tmp_path / "pairs" / "mine.txt").unlink()
    exported(output, tmp_path)
    with pytest.raises(ConfigError, match="not an empty folder"):
        exported(output, tmp_path)
    with pytest.raises(ConfigError, match="local folder"):
        export.check_folder("s3://bucket/pairs")


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    output, run = evaluation(tmp_path / "stage"), tmp_path / "run"

    def full(key, shown):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_csv", full)
    with pytest.raises(StorageError, match="No space left"):
        export_pairs(
            output, Storage(str(run)), str(tmp_path / "pairs"), models=("base", "tuned"), seed=0, selection=Selection()
        )
    assert sorted(os.listdir(tmp_path)) == ["stage"]


def test_a_key_of_other_pairs_is_not_overwritten(tmp_path):
    output = evaluation(tmp_path / "stage")
    exported(output, tmp_path)
    place = human_directory(Storage(str(tmp_path / "run")), output.manifest.key)
    place.write_bytes("key.json", place.read_bytes("key.json") + b" ")
    with pytest.raises(ConfigError, match=r"key\.json belongs to pairs that were made in another way"):
        exported(output, tmp_path, folder="again")
    assert not (tmp_path / "again").exists()


def test_models_with_different_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not hold an image of tuned for each one of base"):
        exported(evaluation(tmp_path / "stage", missing=1), tmp_path)
    with pytest.raises(InputError, match="an image of third"):
        exported(evaluation(tmp_path / "other"), tmp_path, models=("base", "third"))


def test_clean_png_keeps_pixels_alone():
    data = drawn_png("tuned", 3, 1)
    assert {"iCCP", "pHYs", "tEXt"} <= set(chunks(data))
    clean = clean_png(data)
    assert chunks(clean) == ["IHDR", "IDAT", "IEND"]
    assert model_of(clean) == "tuned"
    assert hashlib.sha256(clean).digest() == hashlib.sha256(clean_png(clean)).digest()


def test_prompts_with_commas_quotes_and_line_breaks_survive(tmp_path, monkeypatch):
    output = evaluation(tmp_path / "stage", prompts=2)
    table = [output.storage.read_table(f"images-{model}-00000.parquet") for model in ("base", "tuned")]
    text = 'a "red", round\nthing'
    for model, rows in zip(("base", "tuned"), table, strict=True):
        changed = rows.set_column(1, "prompt", [[text] * len(rows)])
        output.storage.write_table(f"images-{model}-00000.parquet", changed)
    exported(output, tmp_path)
    assert text in {row["prompt"] for row in rows_of(tmp_path / "pairs")}
