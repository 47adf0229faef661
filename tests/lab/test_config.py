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
        (
            {"methods": {"dpo": {"set": {"train.objective": {"name": "ipo"}, "train": {"steps": 7}}}}},
            "methods.dpo.set: 'train' replaces a whole branch, and would erase 'train.objective'",
        ),
        (
            {"noises": {"clean": CLEAN, "x": {"inject.seed": 1, "inject": {}}}},
            "noises.x: 'inject' replaces a whole branch",
        ),
        (
            {"tuning": {"noise": "clean", "candidates": {"train.steps": [1], "train": [{}]}}},
            "tuning.candidates: 'train' replaces a whole branch",
        ),
        (
            {"tuning": TUNING, "methods": {"dpo": {"set": {"train.steps": 5}}}},
            "methods.dpo.set.train.steps and the candidates for train.steps exclude each other",
        ),
        (
            {
                "tuning": TUNING,
                "methods": {
                    "dpo": {
                        "set": {"train.objective.beta": 5},
                        "tune": {"train.objective": [{"name": name} for name in ("dpo", "ipo", "sdpo", "cdpo")]},
                    }
                },
            },
            "methods.dpo.set.train.objective.beta and the candidates for train.objective exclude each other",
        ),
        (
            {"tuning": {**TUNING, "set": {"train.steps": 3}}},
            "tuning.set.train.steps changes what the candidates for train.steps of dpo try",
        ),
        (
            {"tuning": {**TUNING, "set": {"train": {"steps": 3}}}},
            "tuning.set.train changes what the candidates for train.steps of dpo try",
        ),
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


def test_a_key_and_keys_below_it_may_be_set_in_this_order(tmp_path: Path) -> None:
    given = {"train.objective": {"name": "adaptive_dpo"}, "train.objective.u.rho": 15.0}
    methods = {"dpo": {"set": {"train.objective": {"name": "dpo"}}}, "adaptive": {"set": given}}
    tuning = {"noise": "clean", "candidates": {"train.objective.beta": [500, 2000]}}
    assert loaded(tmp_path, methods=methods, tuning=tuning).methods["adaptive"].set == given


DOTTED = {"dpo": {"set": {"train.objective": {"name": "dpo"}}}, "dpo, lr 4.5": {"like": "dpo"}}


@pytest.mark.parametrize(
    ("override", "branch", "key", "value"),
    [
        ("methods.dpo.set.train.global_batch=4", ("methods", "dpo", "set"), "train.global_batch", 4),
        ("methods.dpo.tune.train.steps=[7, 8, 9, 10]", ("methods", "dpo", "tune"), "train.steps", [7, 8, 9, 10]),
        (
            "methods.dpo, lr 4.5.set.train.optimizer.lr=4.5",
            ("methods", "dpo, lr 4.5", "set"),
            "train.optimizer.lr",
            4.5,
        ),
        ("methods.dpo.set.train.objective={name: ipo}", ("methods", "dpo", "set"), "train.objective", {"name": "ipo"}),
        ("methods.dpo.set={train.global_batch: 4}", ("methods", "dpo", "set"), "train.global_batch", 4),
        ("noises.flips 25 %.score.visits.flip=0.5", ("noises", "flips 25 %"), "score.visits.flip", 0.5),
        ("noises.flips 10 %={inject.flips: [1]}", ("noises", "flips 10 %"), "inject.flips", [1]),
        ("noises={clean: {inject.flips: []}}", ("noises", "clean"), "inject.flips", []),
        ("tuning.set.evaluate.samples_per_prompt=4", ("tuning", "set"), "evaluate.samples_per_prompt", 4),
        ("tuning.candidates.train.objective.beta=[1, 2]", ("tuning", "candidates"), "train.objective.beta", [1, 2]),
        ("methods.dpo, lr 4.5={set: {seed: 1}}", ("methods", "dpo, lr 4.5", "set"), "seed", 1),
    ],
)
def test_an_override_keeps_a_key_of_a_run_whole(
    tmp_path: Path, override: str, branch: tuple[str, ...], key: str, value: object
) -> None:
    path = write_lab(tmp_path, methods=DOTTED, tuning=TUNING)
    found = load_lab(path, [override]).model_dump()
    for name in branch:
        found = found[name]
    assert found[key] == value


def test_an_override_reaches_all_other_fields(tmp_path: Path) -> None:
    overrides = ["seeds=[5, 6]", "tuning.noise=flips 25 %", "methods.dpo, lr 4.5.like=null", "budget.minutes=3"]
    config = load_lab(write_lab(tmp_path, methods=DOTTED, tuning=TUNING), overrides)
    assert (config.seeds, config.budget.minutes, config.methods["dpo, lr 4.5"].like) == ((5, 6), 3.0, None)
    assert config.tuning
    assert config.tuning.noise == "flips 25 %"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("methods.dppo.set.train.steps=7", "none of the methods has a name that this begins with: dpo, dpo.set"),
        ("noises.flips 2.5 %.inject.flips=[]", "none of the noises has a name that this begins with: clean, flips 25"),
        ("methods.dpo.set.train.steps=7", "this may mean 'dpo' or 'dpo.set'"),
        ("methods.dpo.sets.train.steps=7", "methods.dpo.sets: "),
    ],
)
def test_an_override_that_cannot_be_placed_is_refused(tmp_path: Path, override: str, words: str) -> None:
    methods = {"dpo": {}, "dpo.set": {}} if "set.train" in override else {"dpo": {}}
    with pytest.raises(ConfigError) as raised:
        load_lab(write_lab(tmp_path, methods=methods), [override])
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("page", "field"),
    [
        ({"reference": "dppo"}, "reference"),
        ({"adaptive": "dppo"}, "adaptive"),
        ({"rivals": ["dpo", "dppo"]}, "rivals"),
        ({"baselines": ["dppo"]}, "baselines"),
        ({"methods": ["dppo"]}, "methods"),
        ({"ablation": ["dpo", "dppo"]}, "ablation"),
        ({"families": {"a": ["dpo", "adaptive_dpo"], "b": ["dpo", "dppo"]}}, "families.b"),
        ({"about": {"dppo": "labels alone"}}, "about"),
    ],
)
def test_a_page_of_methods_that_are_not_there_is_refused(tmp_path: Path, page: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=rf"page\.{field}: 'dppo' is none of the methods.* dpo, adaptive_dpo"):
        loaded(tmp_path, page=page)


def test_what_the_page_takes_by_default_need_not_be_there(tmp_path: Path) -> None:
    assert loaded(tmp_path, methods={"ipo": {}}, page={"title": "One method"}).page.reference == "dpo"
