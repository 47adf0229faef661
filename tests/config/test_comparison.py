"""Configs of comparisons, made from the command line's models and a file of any kind or none."""

from pathlib import Path

import pytest
import yaml

from prefopt.config import load_comparison
from prefopt.errors import ConfigError

PROMPTS = "evaluate.prompt_sets=[{kind: file, path: mine.txt}]"
REWARDS = "evaluate.rewards=[pickscore]"


def test_models_and_overrides_alone_are_enough() -> None:
    config = load_comparison(None, ["a/base@v1", "b/tuned", "runs/x/"], [PROMPTS, REWARDS])
    assert (config.model.path, config.model.revision) == ("a/base", "v1")
    assert config.evaluate.models == {"tuned-2": "b/tuned", "x": "runs/x/"}
    assert config.ingest.sources == ()


def test_a_runs_config_gives_all_but_the_models(tmp_path: Path) -> None:
    tree = {
        "name": "mine",
        "model": {"path": "world", "vae": "some/vae"},
        "ingest": {"sources": [{"kind": "world"}]},
        "evaluate": {
            "rewards": ["world/taste"],
            "prompt_sets": [{"kind": "partiprompts", "path": "p.tsv"}],
            "models": {"old": "o/o"},
            "negative": {"weights_from": "n/n"},
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    config = load_comparison(tmp_path / "run.yaml", ["a/base", "b/model", "c/model"])
    assert (config.name, config.model.path, config.model.vae) == ("mine", "a/base", "some/vae")
    assert config.evaluate.models == {"model": "b/model", "model-2": "c/model"}
    assert config.evaluate.negative is None


def test_what_only_a_run_uses_takes_no_part(tmp_path: Path) -> None:
    tree = {
        "name": "mine",
        "model": "world",
        "ingest": {"sources": [{"kind": "pickapic", "path": "/gone"}], "limits": {"prompt_bytes": 77}},
        "train": {"init_from": "/gone/too"},
        "limit": 5,
        "evaluate": {"rewards": ["world/taste"], "prompt_sets": [{"kind": "partiprompts", "path": "p.tsv"}]},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    config = load_comparison(tmp_path / "run.yaml", ["a/base", "b/model"])
    assert (config.ingest.sources, config.train.init_from, config.model.vae) == ((), None, None)
    assert config.ingest.limits.prompt_bytes == 77
    assert [chosen.most for chosen in config.prompt_sets] == [5]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**tree, "trian": {}}))
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        load_comparison(tmp_path / "run.yaml", ["a/base", "b/model"])


def test_names_are_safe_and_never_those_of_a_runs_models(tmp_path: Path) -> None:
    places = ["../base", "s3://bucket/run one/", "a/tuned", ".hidden", "a@b"]
    config = load_comparison(None, ["a/base", *places], [PROMPTS, REWARDS])
    assert list(config.evaluate.models.values()) == places
    assert list(config.evaluate.models) == ["base-2", "run-one", "tuned-2", "hidden", "a-b"]


@pytest.mark.parametrize(
    ("models", "overrides", "words"),
    [
        (["a/b"], [PROMPTS, REWARDS], "at least two models"),
        (["a/b", "c/d"], [REWARDS], "held-out prompts of a run"),
        (["a/b", "c/d"], [PROMPTS], "evaluate.rewards"),
        (["a/b", "c/d"], [PROMPTS, REWARDS, "evaluate.bach=2"], "did you mean 'batch'"),
    ],
)
def test_what_is_refused(models: list[str], overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_comparison(None, models, overrides)
