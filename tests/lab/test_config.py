from pathlib import Path
from typing import Any

import pytest

from prefopt.config.lab import load_lab
from prefopt.errors import ConfigError
from tests.kit.laboratories import CLEAN, lab_tree, loaded, write_lab

TUNING: dict[str, Any] = {"noise": "clean", "candidates": {"train.steps": [1, 2], "train.optimizer.lr": [1e-5, 1e-4]}}


def test_places_are_seen_from_the_config(tmp_path: Path) -> None:
    config = loaded(tmp_path / "here", outcomes="kept/outcomes.jsonl")
    assert config.run == str(tmp_path / "here" / "run.yaml")
    assert config.outcomes == str(tmp_path / "here" / "kept" / "outcomes.jsonl")
    assert config.cells == 4


def test_candidates_are_every_combination(tmp_path: Path) -> None:
    config = loaded(tmp_path, tuning=TUNING)
    assert config.candidates("dpo") == [
        {"train.steps": steps, "train.optimizer.lr": lr} for steps in (1, 2) for lr in (1e-5, 1e-4)
    ]


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        ({"tuning": {**TUNING, "noise": "flips"}}, "none of the noises: clean, flips 25 %"),
        (
            {"tuning": TUNING, "methods": {"dpo": {}, "ipo": {"tune": {"train.steps": [1, 2]}}}},
            "equally many candidates: dpo 4, ipo 2",
        ),
        ({"methods": {"dpo": {"tune": {"train.steps": [1, 2]}}}}, "methods.dpo.tune needs `tuning`"),
        ({"methods": {"dpo": {}, "x": {"like": "y"}}}, "methods.x.like 'y' must be a method"),
        ({"tuning": TUNING, "methods": {"dpo": {}, "x": {"like": "dpo", "tune": {"a": [1]}}}}, "exclude each other"),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [1, 1]}, "seeds names a seed twice"),
        ({"tuning": {**TUNING, "seeds": [3]}}, r"seeds and tuning.seeds share [3]"),
        ({"noises": {"some": {}}}, "noises.some: the first noise is clean labels"),
        ({"noises": {"clean": CLEAN, "again": CLEAN}}, "flip the same share of labels: clean, again"),
        ({"methods": {"dpo/x": {}}}, "methods.dpo/x"),
        ({"budgets": {}}, "budgets: "),
    ],
)
def test_what_is_no_laboratory_is_said(tmp_path: Path, branches: dict[str, Any], words: str) -> None:
    path = write_lab(tmp_path, **branches)
    with pytest.raises(ConfigError) as raised:
        load_lab(path)
    assert str(path) in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(("text", "words"), [("[1]", "a mapping"), ("a: [", "not valid YAML"), (None, "Cannot read")])
def test_what_is_no_file_of_it_is_said(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "lab.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_lab(path)


def test_an_ablation_takes_the_settings_of_another_method(tmp_path: Path) -> None:
    methods = lab_tree()["methods"] | {"dpo, averaged": {"like": "dpo"}}
    assert loaded(tmp_path, tuning=TUNING, methods=methods).cells == 6
