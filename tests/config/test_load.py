import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt.config import RunConfig, dump_config, load_config, parse_config
from prefopt.config.load import MAX_CONFIG_BYTES
from prefopt.errors import ConfigError
from tests.kit.data import config_tree

EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[2] / "examples").glob("*.yaml")
    if not path.stem.startswith("lab_") or path.stem.endswith("_run")
)


def tree(**branches: Any) -> dict[str, Any]:
    source = {"kind": "pickapic", "path": "data"}
    return config_tree(Path("place"), [source], **branches)


def problem(**branches: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree(**branches), "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(path: Path) -> None:
    assert isinstance(load_config(path), RunConfig)


def test_there_are_examples() -> None:
    assert "quickstart" in [path.stem for path in EXAMPLES]


SOURCES: list[dict[str, Any]] = [
    {"kind": "world", "pairs": 3},
    {"kind": "hpdv2", "path": "train.json", "images": "train"},
    {"kind": "folder", "path": "x.csv", "images": "x"},
    {"kind": "table", "path": "t.jsonl", "columns": {"shape": "ranking", "prompt": "p", "images": "i", "ranks": "r"}},
    {
        "kind": "table",
        "path": "t.parquet",
        "columns": {"shape": "counts", "prompt": "p", "image_0": "a", "image_1": "b", "wins_0": "c", "wins_1": "d"},
    },
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_dumped_example_is_the_same_config(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_a_dumped_config_with_every_source_and_flip_is_the_same(tmp_path: Path) -> None:
    flips = [
        {"kind": "symmetric", "rate": 0.1},
        {"kind": "gap", "rate": 0.2, "reward": "world/style"},
        {"kind": "group", "rates": {"a": 0.5}},
    ]
    branches = {"labels": {"from": "share"}, "inject": {"flips": flips}, "train": {"objective": {"name": "smpo"}}}
    config = parse_config(tree(ingest={"sources": SOURCES}, score={"alpha": {"reward": "r"}}, **branches), "x")
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    assert "from: share" in dump_config(config)


@pytest.mark.parametrize(
    ("branches", "key", "nearest"),
    [
        ({"trian": {}}, "trian", "train"),
        ({"train": {"stepz": 3}}, "train.stepz", "steps"),
        ({"evaluate": {"prompts": 3}}, "evaluate.prompts", "prompt_sets"),
        ({"train": {"optimizer": {"learning": 1}}}, "train.optimizer.learning", "eps"),
        ({"train": {"objective": {"name": "dpo", "betta": 1}}}, "train.objective.betta", "beta"),
        ({"train": {"objective": {"name": "adaptive_dpo", "u": {"ema": {"slwo": 1}}}}}, "train.objective.u.ema.slwo", "slow"),  # noqa: E501
        ({"ingest": {"sources": [{"kind": "pickapic", "pth": "x"}]}}, "ingest.sources.0.pth", "path"),
        ({"ingest": {"sources": [{"kind": "world"}, {"kind": "world", "paris": 3}]}}, "ingest.sources.1.paris", "pairs"),  # noqa: E501
        ({"ingest": {"sources": [{**SOURCES[3], "columns": {**SOURCES[3]["columns"], "rank": 1}}]}}, "ingest.sources.0.columns.rank", "ranks"),  # noqa: E501
        ({"inject": {"flips": [{"kind": "symmetric", "ratio": 0.2}]}}, "inject.flips.0.ratio", "rate"),
        ({"score": {"panel": {"rewards": ["a", "b"], "rh": 1}}}, "score.panel.rh", "rho"),
        ({"labels": {"form": "share"}}, "labels.form", "from"),
        ({"card": {"thumbnails": 64}}, "card.thumbnails", "thumbnail"),
        ({"card": {"least_vote": 3}}, "card.least_vote", "least_votes"),
        ({"evaluate": {"rewards": ["r"], "sampler": {"step": 3}}}, "evaluate.sampler.step", "steps"),
        ({"cluster": {"worker": 3}}, "cluster.worker", "workers"),
    ],
)  # fmt: skip
def test_an_unknown_key_names_the_nearest(branches: dict[str, Any], key: str, nearest: str) -> None:
    message = problem(**branches)
    assert f"unknown key {key!r}: did you mean" in message
    if key != "train.optimizer.learning":
        assert f"unknown key {key!r}: did you mean {nearest!r}?" in message


@pytest.mark.parametrize(
    ("branches", "field", "words"),
    [
        ({"train": {"steps": 0}}, "train.steps", "greater than or equal to 1"),
        ({"train": {"steps": "many"}}, "train.steps", "(given: 'many')"),
        ({"train": {"optimizer": {"lr": float("nan")}}}, "train.optimizer.lr", "finite"),
        ({"train": {"global_batch": 5, "micro_batch": 2}}, "train", "global_batch 5 is not a multiple of micro_batch 2"),  # noqa: E501
        ({"train": {"workers": 3}}, "train", "2 micro-batches per step do not divide among 3 workers"),
        ({"inject": {"flips": [{"kind": "symmetric", "rate": 1.5}]}}, "inject.flips.0.rate", "less than or equal to 1"),
        ({"inject": {"flips": [{"kind": "odd"}]}}, "inject.flips.0", "'symmetric', 'gap', 'group'"),
        ({"ingest": {"sources": []}}, "ingest.sources", "at least 1 item"),
        ({"ingest": {"split": {"validation": 0.5, "test": 0.5}}}, "ingest.split", "must leave a share for training"),
        ({"score": {"alpha": {"reward": "a", "minimum": 2, "maximum": 1}}}, "score.alpha", "maximum must be above minimum"),  # noqa: E501
        ({"card": {"annotators": "named"}}, "card.annotators", "'hashed' or 'shown'"),
        ({"card": {"pairs": 1000}}, "card.pairs", "less than or equal to 100"),
        ({"card": {"pairs": 30, "listed": 20}}, "card", "listed must be at least pairs, which is 30"),
        ({"labels": {"from": "best"}}, "labels.from", "'each_vote', 'majority' or 'share'"),
        ({"name": "../escape"}, "name", "pattern"),
        ({"train": {"objective": {"name": "smpo"}}}, "", "train.objective smpo needs score.alpha"),
        ({"evaluate": {"rewards": ["a"]}, "score": {"alpha": {"reward": "a"}}}, "", "evaluate.rewards[0] 'a' also labels"),  # noqa: E501
        ({"evaluate": {"rewards": []}}, "evaluate.rewards", "at least 1 item"),
    ],
)  # fmt: skip
def test_an_impossible_value_names_its_field(branches: dict[str, Any], field: str, words: str) -> None:
    message = problem(**branches)
    assert field in message
    assert words in message


def test_all_problems_are_told_at_once() -> None:
    message = problem(train={"steps": 0}, score={"batch": 0})
    assert "train.steps" in message
    assert "score.batch" in message


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold a mapping of config keys, not NoneType"),
        ("- a\n- b\n", "not list"),
        ("just words", "not str"),
        ("a: [1,", "is not valid YAML"),
        ("a: b: c", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['echo hacked']", "is not valid YAML"),
        ("a: !!python/name:os.system", "is not valid YAML"),
        ("when: 2024-13-45", "is not valid YAML"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ("a: " + "[" * 20_000, "is not valid YAML"),
        ("name: x\n" + "#" * MAX_CONFIG_BYTES, "larger than"),
        ("1: 2\nname: x\n", "my.yaml"),
    ],
)
def test_what_is_not_a_config_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "my.yaml")


@pytest.mark.parametrize("name", ["gone.yaml", ""])
def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Cannot read the config"):
        load_config(tmp_path / name)


def overridden(tmp_path: Path, *overrides: str) -> RunConfig:
    flips = {"flips": [{"kind": "symmetric", "rate": 0.2}]}
    return load_config(written(tmp_path, yaml.safe_dump(tree(inject=flips))), overrides)


def test_overrides_reach_every_depth(tmp_path: Path) -> None:
    config = overridden(
        tmp_path,
        "seed=7",
        "train.optimizer.lr=1e-4",
        "inject.flips.0.rate=0.4",
        "labels.from=majority",
        "score.alpha={reward: r}",
        "score.visits.flip=0.5",
        "cluster.address=127.0.0.1:6379",
        "train.steps=4",
        "train.steps=5",
    )
    assert config.seed == 7
    assert config.train.optimizer.lr == 1e-4
    assert config.inject.flips[0].model_dump()["rate"] == 0.4
    assert config.labels.rule == "majority"
    assert config.score.alpha is not None
    assert config.score.visits.flip == 0.5
    assert config.cluster.address == "127.0.0.1:6379"
    assert config.train.steps == 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("train.steps=[", "the value is not valid YAML"),
        ("seed=2024-13-45", "the value is not valid YAML"),
        ("train.stepz=3", "did you mean 'steps'"),
        ("inject.flips.1.rate=0.1", "'1' is not an index of a list of 1"),
        ("inject.flips.x=0.1", "'x' is not an index"),
        ("name.first=x", "not a mapping"),
        ("name.first.second=x", "not a mapping"),
        ("train.steps=-1", "train.steps"),
    ],
)
def test_bad_overrides_are_refused(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(tmp_path, override)
    assert words in str(caught.value)


@pytest.mark.parametrize("module", ["prefopt.config", "prefopt.data.schema", "prefopt.data.manifest"])
def test_configs_and_schemas_import_without_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "ray", "kfp", "diffusers", "transformers", "deepspeed", "matplotlib"}
    assert not heavy & set(answer.stdout.split())


def test_a_config_never_changes() -> None:
    config = parse_config(tree(), "x")
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        (
            {"ingest": {"split": {"validation": 0.1, "test": 0.0}}},
            "evaluate.split test needs ingest.split.test above 0",
        ),
        ({"evaluate": {"rewards": ["world/true", "world/true"]}}, "evaluate.rewards names a reward twice"),
        ({"score": {"panel": {"rewards": ["world/style"] * 2}}}, "score.panel.rewards names a reward twice"),
    ],
)
def test_a_config_that_could_only_fail_late_is_refused(branches: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(config_tree(Path("place"), [{"kind": "world"}], **branches), "my.yaml")


def test_a_table_holds_votes_unless_its_shape_says_otherwise() -> None:
    columns = {"prompt": "p", "image_0": "a", "image_1": "b", "label": "y"}
    source = {"kind": "table", "path": "a.parquet", "columns": columns}
    config = parse_config(config_tree(Path("place"), [source]), "my.yaml")
    assert config.ingest.sources[0].columns.shape == "vote"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [(None, 1024), ({"steps": 8}, 1024), ({"resolution": 256}, 256), ({"resolution": 512}, 512)],
)
def test_images_of_the_paired_evaluation_are_as_large_as_those_of_training(
    sampler: dict[str, int] | None, expected: int
) -> None:
    evaluation = {"reward": "world/style"} | ({"sampler": sampler} if sampler else {})
    train = {"health": {"evaluation": evaluation}}
    config = parse_config(tree(score={"resolution": 1024}, train=train), "here")
    assert config.train.health.evaluation
    assert config.train.health.evaluation.sampler.resolution == expected
    assert parse_config(yaml.safe_load(dump_config(config)), "again") == config
