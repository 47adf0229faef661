from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, dump_config, load_config, parse_config
from prefopt.errors import ConfigError
from tests.kit.data import config_tree

SETS: list[dict[str, Any]] = [
    {"kind": "heldout", "most": 5},
    {"kind": "file", "path": "a.csv", "prompt_column": "text", "category_column": "style", "name": "mine"},
    {"kind": "file", "path": "s3://b/a.txt"},
    {"kind": "partiprompts", "path": "p.tsv"},
    {"kind": "pickapic", "path": "p", "split": "validation_unique"},
    {"kind": "hpdv2", "path": "h"},
    {"kind": "drawbench", "path": "d.json"},
]


def config(*sets: dict[str, Any], **branches: Any) -> RunConfig:
    tree = config_tree(Path("place"), [{"kind": "world"}], **branches)
    return parse_config({**tree, "evaluate": {**tree["evaluate"], "prompt_sets": list(sets)}}, "my.yaml")


def test_the_held_out_prompts_are_the_default() -> None:
    (only,) = config({"kind": "heldout"}).evaluate.prompt_sets
    assert (only.kind, only.name, only.most) == ("heldout", "heldout", 500)
    tree = config_tree(Path("place"), [{"kind": "world"}])
    tree["evaluate"].pop("prompt_sets", None)
    assert parse_config(tree, "x").evaluate.prompt_sets == (only,)


def test_sets_are_called_after_their_kind_unless_named(tmp_path: Path) -> None:
    found = config(*SETS)
    names = [chosen.name for chosen in found.evaluate.prompt_sets]
    assert names == ["heldout", "mine", "file", "partiprompts", "pickapic", "hpdv2", "drawbench"]
    (tmp_path / "again.yaml").write_text(dump_config(found))
    assert load_config(tmp_path / "again.yaml") == found
    assert load_config(tmp_path / "again.yaml", ["evaluate.prompt_sets.0.most=3"]).evaluate.prompt_sets[0].most == 3


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], "evaluate.prompt_sets: .* at least 1 item"),
        (
            [{"kind": "hpdv2", "path": "a"}, {"kind": "hpdv2", "path": "b"}],
            "two prompt sets have one name: hpdv2, h",
        ),
        ([{"kind": "file", "path": "a.doc"}], r"prompt_sets.0.path: must be a file that ends in \.txt or \.csv"),
        ([{"kind": "partiprompts", "path": "a.csv"}], r"ends in \.tsv"),
        ([{"kind": "drawbench", "path": "a.tsv"}], r"ends in \.json or \.csv"),
        ([{"kind": "file", "path": "a.txt", "category_column": "x"}], "holds a prompt a line and no columns"),
        ([{"kind": "file", "path": "a.txt", "name": "a/b"}], "prompt_sets.0.name: "),
        ([{"kind": "file", "path": "a.txt", "most": 0}], "prompt_sets.0.most: "),
        ([{"kind": "pickapic", "path": "a", "split": "test"}], "prompt_sets.0.split: "),
        ([{"kind": "file", "pth": "a.txt"}], r"unknown key 'evaluate.prompt_sets.0.pth': did you mean 'path'"),
    ],
)
def test_impossible_sets_are_refused(sets: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(*sets)


def test_only_held_out_prompts_need_a_split() -> None:
    ingest = {"sources": [{"kind": "world"}], "split": {"test": 0.0}}
    with pytest.raises(ConfigError, match=r"evaluate\.split test needs ingest\.split\.test above 0"):
        config({"kind": "heldout"}, {"kind": "file", "path": "a.txt"}, ingest=ingest)
    assert not config({"kind": "file", "path": "a.txt"}, ingest=ingest).evaluate.draws_heldout
