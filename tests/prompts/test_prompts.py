"""Prompt sets of every kind, read from small files."""

import csv
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from prefopt.config.ingest import Limits
from prefopt.config.prompts import PromptSetConfig
from prefopt.data.ids import normalised_prompt, prompt_order
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.prompts import (
    STYLES,
    Heldout,
    Prompt,
    PromptList,
    drawn_prompts,
    open_prompt_set,
    read_prompts,
)
from tests.kit.s3 import object_store

PARTI_HEADER = "Prompt\tCategory\tChallenge\tNote"
CONFIG: TypeAdapter[PromptSetConfig] = TypeAdapter(PromptSetConfig)


def read(kind: str, path: Path | str, limits: Limits | None = None, **fields: Any) -> PromptList:
    return read_prompts(CONFIG.validate_python({"kind": kind, "path": str(path), **fields}), limits or Limits())


def texts(found: PromptList) -> list[str]:
    return [row.prompt for row in found.prompts]


def written(place: Path, name: str, content: str | bytes) -> Path:
    path = place / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    found = read("file", written(tmp_path, "mine.txt", 'a red fox\n  "A" \u2028 b, c\td\n'))
    assert found == PromptList("file", "file", (Prompt("a red fox"), Prompt('  "A" \u2028 b, c\td')))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_prompt(
    tmp_path: Path, end: str, mark: str, last: bool
) -> None:
    def file(name: str, *lines: str) -> Path:
        return written(tmp_path, name, mark + end.join(lines) + (end if last else ""))

    assert texts(read("file", file("x.txt", "a", "b"))) == ["a", "b"]
    for name, between in (("x.csv", ","), ("x.tsv", "\t")):
        path = file(name, f"kind{between}prompt", f"k{between}a", f"l{between}b")
        found = read("file", path, category_column="kind")
        assert found.prompts == (Prompt("a", "k"), Prompt("b", "l"))
    assert texts(read("file", file("x.jsonl", '{"prompt": "a"}', '{"prompt": "b"}'))) == ["a", "b"]
    assert texts(read("drawbench", file("x.json", '["a",', '"b"]'))) == ["a", "b"]
    assert texts(read("partiprompts", file("x.tsv", PARTI_HEADER, "a\tb\tc\t"))) == ["a"]


def test_a_csv_has_quotation_and_a_tsv_has_none(tmp_path: Path) -> None:
    quoted = 'text,style\n"a ""b"", c\nd",x\n'
    found = read("file", written(tmp_path, "x.csv", quoted), prompt_column="text", category_column="style")
    assert found.prompts == (Prompt('a "b", c\nd', "x"),)
    plain = 'prompt\n"G I G G L E" in paint, a "sign"\n"quoted"\n'
    assert texts(read("file", written(tmp_path, "x.tsv", plain))) == ['"G I G G L E" in paint, a "sign"', '"quoted"']


def test_a_field_of_json_lines_may_be_missing_from_some_but_not_from_all(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", '{"prompt": "a"}\n\n{"prompt": "b", "style": 3, "other": []}\n')
    found = read("file", path, category_column="style")
    assert (found.prompts, found.skipped) == ((Prompt("a"), Prompt("b", "3")), {"empty_prompt": 1})
    with pytest.raises(InputError, match=r"No line of .*x\.jsonl has a field 'kind'"):
        read("file", path, category_column="kind")
    with pytest.raises(InputError, match=r"x\.jsonl, line 1 has no field 'text'; it has prompt"):
        read("file", path, prompt_column="text")


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"caption": ["a", None, "b"], "style": pa.array(["x", "y", None]).dictionary_encode()})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found = read("file", tmp_path / "x.parquet", prompt_column="caption", category_column="style")
    assert (found.prompts, found.skipped) == ((Prompt("a", "x"), Prompt("b")), {"empty_prompt": 1})


def test_partiprompts_keep_category_and_challenge_and_what_they_repeat(tmp_path: Path) -> None:
    rows = ["a cow\tAnimals\tBasic\tx", "a cow.\tAnimals\tComplex\t", "bond\tAbstract\tBasic\ty"]
    found = read("partiprompts", written(tmp_path, "p.tsv", "\n".join([PARTI_HEADER, *rows])), name="parti")
    assert (found.name, found.kind, found.repeated, found.skipped) == ("parti", "partiprompts", 1, {})
    assert found.prompts[1:] == (Prompt("a cow.", "Animals", "Complex"), Prompt("bond", "Abstract", "Basic"))


def test_the_published_partiprompts_parse_with_their_categories() -> None:
    folder = os.environ.get("PREFOPT_TEST_DATA")
    if not folder:
        pytest.skip("PREFOPT_TEST_DATA does not name the folder that holds PartiPrompts.tsv")
    found = read("partiprompts", Path(folder) / "PartiPrompts.tsv")
    assert (len(found.prompts), found.repeated, found.skipped) == (1632, 1, {})
    assert len(set(texts(found))) == 1632
    categories = Counter(row.category for row in found.prompts)
    assert len(categories) == 12
    assert (categories["Animals"], categories["World Knowledge"], categories["Indoor Scenes"]) == (314, 214, 40)
    challenges = Counter(row.challenge for row in found.prompts)
    assert len(challenges) == 11
    assert challenges["Fine-grained Detail"] == 312
    assert sum(text.startswith('"G I G G L E" painted') for text in texts(found)) == 1


def test_pickapic_reads_a_file_or_the_files_of_a_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    captions = {"test_unique-1": "c", "test_unique-0": "a", "validation_unique-0": "b", "train-0": "t"}
    for name, caption in captions.items():
        table = pa.table({"caption": [caption, caption.upper()], "jpg_0": [b"", b""]})
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    assert texts(read("pickapic", tmp_path)) == ["a", "A", "c", "C"]
    assert texts(read("pickapic", tmp_path, split="validation_unique")) == ["b", "B"]
    assert texts(read("pickapic", tmp_path / "data" / "train-0.parquet")) == ["t", "T"]
    with pytest.raises(InputError, match=r"no test_unique\*\.parquet in .*empty"):
        read("pickapic", tmp_path / "empty")


def benchmark(place: Path, prompts: int = 3) -> Path:
    for style in STYLES:
        (place / f"{style}.json").write_text(json.dumps([f"{style} {number}" for number in range(prompts)]))
    return place


def test_the_styles_of_hpdv2_are_its_categories(tmp_path: Path) -> None:
    found = read("hpdv2", benchmark(tmp_path))
    assert len(found.prompts) == 12
    assert found.prompts[3] == Prompt("concept-art 0", "concept-art")
    assert [row.category for row in found.prompts[::3]] == list(STYLES)
    (tmp_path / "photo.json").unlink()
    with pytest.raises(InputError, match=r"no prompt file .*photo\.json"):
        open_prompt_set(CONFIG.validate_python({"kind": "hpdv2", "path": str(tmp_path)})).files()


def test_drawbench_as_json_and_as_csv(tmp_path: Path) -> None:
    assert texts(read("drawbench", written(tmp_path, "drawbench.json", '["A red car.", "a, b"]'))) == [
        "A red car.",
        "a, b",
    ]
    found = read("drawbench", written(tmp_path, "d.csv", 'Prompts,Category\nA red car.,Colors\n"a, b",Text\n'))
    assert found.prompts == (Prompt("A red car.", "Colors"), Prompt("a, b", "Text"))


def test_held_out_prompts_are_each_there_once_with_one_category() -> None:
    pairs = [("b", "x"), ("a", ""), ("b", ""), ("b", "w"), ("A.", "y")]
    rows = [{"prompt": prompt, "category": category} for prompt, category in pairs]
    config = CONFIG.validate_python({"kind": "heldout"})
    found = read_prompts(config, Limits(), Heldout(rows))
    assert found == read_prompts(config, Limits(), Heldout(rows[::-1]))
    assert set(found.prompts) == {Prompt("b", "w"), Prompt("a"), Prompt("A.", "y")}
    assert texts(read_prompts(config, Limits(), Heldout(rows, elsewhere=[" a"]))) == ["b"]
    with pytest.raises(ValueError, match="run's pairs"):
        open_prompt_set(config)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", b"a\nb\xff\n", r"x\.txt, line 2: byte 0xff is not UTF-8\. Save"),
        ("x.csv", b"prompt\n\xe9t\xe9\n", r"line 2: byte 0xe9 is not UTF-8"),
        ("x.jsonl", b"\xff\xfea\0", r"line 1: byte 0xff is not UTF-8"),
        ("x.txt", "", r"prompt set file holds no prompt"),
        ("x.txt", " \n\n", r"holds no prompt \(skipped: 2 empty_prompt\)"),
        ("x.csv", "prompt\n", r"holds no prompt"),
        ("x.csv", "", r"x\.csv has no column 'prompt'; its header is empty"),
        ("x.csv", "text,a\nb,c\n", r"line 1 has no column 'prompt'; its header is text, a"),
        ("x.csv", "prompt,prompt\na,b\n", r"line 1 names a column twice"),
        ("x.csv", "prompt,a\nb\n", r"x\.csv, line 2 has 1 columns, but the header has 2 \(prompt, a\): mend"),
        ("x.csv", 'prompt\n"a\n', r"x\.csv, line 2 is not valid CSV"),
        ("x.csv", 'prompt\n"a" b\n', r"x\.csv, line 2 is not valid CSV"),
        ("x.tsv", "prompt\ta\nb\tc\n\nd\te\tf\n", r"x\.tsv, line 4 has 3 columns, but the header has 2"),
        ("x.tsv", 'prompt\n"a ""b"" c"\n', r"x\.tsv, line 2: the cell .* is quoted as in a CSV"),
        ("x.jsonl", '{"prompt": "a"}\n["b"]\n', r"x\.jsonl, line 2 must hold a JSON object"),
        ("x.jsonl", '{"prompt": "a"}\n{"prompt": \n', r"x\.jsonl, line 2 is not valid JSON"),
        ("x.jsonl", "[" * 100_000, r"x\.jsonl, line 1 is not valid JSON"),
        ("x.jsonl", '{"prompt": 3}\n', r"x\.jsonl, line 1: the prompt must be text, not 3"),
        ("x.jsonl", '{"prompt": "\\ud800"}\n', r"line 1: the prompt is not valid Unicode"),
        ("x.parquet", "no parquet", r"x\.parquet is not a whole parquet file"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read("file", written(tmp_path, name, content))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["x"], r"line 1: the category must be text, not \['x'\]"),
        ("\ud800", r"line 1: the category .* is not valid Unicode"),
        ("x" * 9000, r"line 1: the category has 9000 bytes, limit 8000"),
    ],
)
def test_a_category_is_text_of_bounded_length(tmp_path: Path, value: Any, words: str) -> None:
    path = written(tmp_path, "x.jsonl", json.dumps({"prompt": "a", "style": value}))
    with pytest.raises(InputError, match=words):
        read("file", path, category_column="style")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": "b"}', r"anime\.json must hold a JSON list of prompts"),
        ('["a", ', r"anime\.json is not valid JSON"),
        ('["a", {"prompt": "b"}]', r"anime\.json, entry 2: the prompt must be text"),
        ("[" * 100_000, r"anime\.json is not valid JSON"),
    ],
)
def test_a_malformed_benchmark_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (benchmark(tmp_path) / "anime.json").write_text(content)
    with pytest.raises(InputError, match=words):
        read("hpdv2", tmp_path)


def test_missing_columns_of_parquet_and_of_published_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet has no column 'caption'; it has text"):
        read("pickapic", tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet has no column 'style'"):
        read("file", tmp_path / "x.parquet", prompt_column="text", category_column="style")
    with pytest.raises(InputError, match=r"p\.tsv, line 1 has no column 'Challenge'"):
        read("partiprompts", written(tmp_path, "p.tsv", "Prompt\tCategory\na\tb\n"))
    with pytest.raises(InputError, match=r"d\.csv, line 1 has no column 'Prompts'"):
        read("drawbench", written(tmp_path, "d.csv", "prompt,Category\na,b\n"))


def test_a_missing_and_an_oversized_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in (("file", "x.txt"), ("file", "x.parquet"), ("partiprompts", "x.tsv"), ("drawbench", "x.json")):
        with pytest.raises(InputError, match=f"no prompt file .*{name}"):
            read(kind, tmp_path / name)
    monkeypatch.setattr("prefopt.prompts.records.MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match=r"x\.txt has 12 bytes: .* may have 10"):
        read("file", written(tmp_path, "x.txt", "a" * 12))


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    lines = ["A cat", "", "a  CAT.", "b" * 20, " ", "a dog", "A cat"]
    path = written(tmp_path, "x.txt", "\n".join(lines))
    found = read("file", path, Limits(prompt_bytes=10))
    assert texts(found) == ["A cat", "a dog"]
    assert found.skipped == {"empty_prompt": 2, "duplicate_prompt": 2, "prompt_too_long": 1}
    assert found.repeated == 0


def test_most_takes_the_first_in_hash_order_and_keeps_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, "x.txt", "\n".join(f"prompt {number}" for number in range(40)))
    every = texts(read("file", path))
    few = texts(read("file", path, most=7))
    assert set(few) == set(sorted(every, key=prompt_order)[:7])
    assert few == [text for text in every if text in few]
    assert texts(read("file", path, most=99)) == every


def test_a_prompt_of_two_sets_is_drawn_once(tmp_path: Path) -> None:
    first = read("file", written(tmp_path, "x.txt", "a\nb\nc"))
    second = read("partiprompts", written(tmp_path, "p.tsv", f"{PARTI_HEADER}\nb\tx\ty\t\nB\tx\ty\t\nb\tx\ty\t\n"))
    drawn = drawn_prompts([first, second])
    assert sorted(drawn) == ["B", "a", "b", "c"]
    assert drawn == sorted(drawn, key=prompt_order) == drawn_prompts([second, first])


def test_sets_on_an_object_store(tmp_path: Path) -> None:
    benchmark(tmp_path)
    written(tmp_path, "x.csv", "prompt\na\n")
    pq.write_table(pa.table({"caption": ["b"]}), tmp_path / "test_unique.parquet")
    with object_store() as uri:
        place = Storage(f"{uri}/sets")
        for path in tmp_path.iterdir():
            place.write_bytes(path.name, path.read_bytes())
        assert texts(read("file", f"{uri}/sets/x.csv")) == ["a"]
        assert texts(read("pickapic", f"{uri}/sets")) == ["b"]
        assert len(read("hpdv2", f"{uri}/sets").prompts) == 12
        with pytest.raises(InputError, match=r"no prompt file s3://bucket/sets/y\.txt"):
            read("file", f"{uri}/sets/y.txt")


line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff"), min_size=1, max_size=20)
cell = line.filter(lambda text: "\t" not in text and '""' not in text)


def different(prompts: list[str]) -> list[str]:
    """Those that a file keeps."""
    kept: dict[str, str] = {}
    for prompt in prompts:
        if prompt.strip():
            kept.setdefault(normalised_prompt(prompt), prompt)
    return list(kept.values())


@given(prompts=st.lists(line, min_size=1, max_size=8), suffix=st.sampled_from(["txt", "csv", "jsonl", "parquet"]))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("prompts") / f"x.{suffix}"
    expected = different(prompts)
    if not expected:
        return
    if suffix == "txt":
        path.write_bytes("".join(f"{prompt}\n" for prompt in prompts).encode())
    elif suffix == "csv":
        stream = io.StringIO(newline="")
        csv.writer(stream).writerows([["prompt", "n"], *[[prompt, "x"] for prompt in prompts]])
        path.write_bytes(stream.getvalue().encode())
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    else:
        pq.write_table(pa.table({"prompt": prompts}), path)
    assert texts(read("file", path)) == expected


@given(rows=st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8))
def test_a_tsv_that_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("prompts") / "x.tsv"
    path.write_bytes("\n".join([PARTI_HEADER, *["\t".join([*row, ""]) for row in rows]]).encode())
    kept = [row for row in rows if row[0].strip()]
    if not kept:
        with pytest.raises(InputError, match="holds no prompt"):
            read("partiprompts", path)
        return
    found = read("partiprompts", path)
    assert texts(found) == [prompt for prompt, _, _ in kept]
    assert [row.category for row in found.prompts] == [" ".join(category.split()) for _, category, _ in kept]
