"""Short and long forms of score.alpha and score.panel, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, dump_config, load_config, parse_config
from prefopt.errors import ConfigError
from tests.kit.data import config_tree

BRANCHES: list[dict[str, Any]] = [
    {"alpha": {"reward": "world/style"}},
    {"alpha": {"reward": "world/style", "normalise": "constants", "minimum": -2, "maximum": 3, "calibrate": "platt"}},
    {"alpha": {"reward": "pickscore", "normalise": "published"}},
    {"alpha": {"rewards": {"pickscore": {"weight": 2, "normalise": "published"}, "hpsv2.1": 0.5}}},
    {"panel": {"rewards": ["world/style", "world/taste"]}},
    {"panel": {"snapshots": ["runs/a", "o/name@main"], "snapshot_range": [0.5, 1.0], "crowd": False}},
    {"panel": {"rewards": ["world/style"], "snapshots": ["runs/a"]}},
    {"panel": {"rewards": ["world/style", "world/taste"], "snapshots": ["runs/a"], "snapshot_share": 0.1}},
]


def parsed(**branches: Any) -> RunConfig:
    return parse_config(config_tree(Path("place"), [{"kind": "world"}], **branches), "my.yaml")


@pytest.mark.parametrize("score", BRANCHES)
def test_a_dumped_config_is_the_same(score: dict[str, Any], tmp_path: Path) -> None:
    config = parsed(score=score)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_one_reward_is_an_ensemble_of_one() -> None:
    short = parsed(score={"alpha": {"reward": "r", "normalise": "constants", "maximum": 3}}).score.alpha
    long = parsed(score={"alpha": {"rewards": {"r": {"normalise": "constants", "maximum": 3}}}}).score.alpha
    assert short is not None
    assert long is not None
    assert short.members() == long.members()
    assert short.members()["r"].weight == 1.0


def test_every_reward_is_run_once() -> None:
    score = {"alpha": {"rewards": {"b": 1, "a": 2}}, "panel": {"rewards": ["c", "a"]}}
    assert parsed(score=score).score.reward_names() == ("a", "b", "c")


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ({"alpha": {}}, "score.alpha: alpha needs either reward or rewards"),
        ({"alpha": {"reward": "a", "rewards": {"b": 1}}}, "needs either reward or rewards, and not both"),
        ({"alpha": {"rewards": {"a": 0}}}, r"score.alpha.rewards.a.weight: .* greater than 0"),
        ({"alpha": {"rewards": {"a": True}}}, r"score.alpha.rewards.a"),
        ({"alpha": {"rewards": {"a": {"wieght": 1}}}}, r"score.alpha.rewards.a.wieght'?: did you mean 'weight'"),
        ({"alpha": {"rewards": {"a": 1}, "maximum": 2}}, "with rewards, normalise, minimum and maximum belong to each"),
        ({"alpha": {"rewards": {"a": {"minimum": 5}}}}, "maximum must be above minimum"),
        ({"alpha": {"reward": "a", "calibrate": "beta"}}, "'none', 'platt' or 'isotonic'"),
        ({"alpha": {"reward": "a", "normalise": "published"}}, "published is known for pickscore alone, not for a"),
        (
            {"alpha": {"rewards": {"pickscore": 1, "hpsv2": {"normalise": "published"}}}},
            "published is known for pickscore alone, not for hpsv2: choose scales",
        ),
        ({"panel": {"rewards": ["a"]}}, "needs two annotators at least"),
        ({"panel": {"snapshots": ["a"]}}, "needs two annotators at least"),
        ({"panel": {"snapshots": ["a", "a"]}}, "snapshots names one twice: a, a"),
        ({"panel": {"snapshots": ["a", "b"], "snapshot_share": 0.5}}, "snapshot_share below 1 needs two rewards"),
        ({"panel": {"rewards": ["a", "b"], "snapshots": ["c"], "snapshot_share": 0}}, "snapshot_share"),
        ({"panel": {"snapshots": ["a", "b"], "snapshot_range": [0.5, 0.5]}}, r"snapshot_range: \[0\.5, 0\.5\] must be"),
        ({"panel": {"snapshots": ["a", "b"], "snapshot_range": [0.5, 1.5]}}, "snapshot_range.1"),
    ],
)
def test_what_cannot_work_is_refused(score: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parsed(score=score)


def test_another_name_of_one_model_is_no_second_member() -> None:
    models = {"mine": {"kind": "pickscore", "weights": "elsewhere"}}
    with pytest.raises(ConfigError, match=r"score\.alpha\.rewards names a reward twice: mine, pickscore"):
        parsed(rewards={"models": models}, score={"alpha": {"rewards": {"pickscore": 1, "mine": 1}}})


def test_the_published_range_belongs_to_the_kind_of_model_and_not_to_its_name() -> None:
    models = {
        "mine": {"kind": "pickscore", "weights": "elsewhere"},
        "judge": {"kind": "http", "url": "http://h", "version": "1"},
    }
    assert parsed(rewards={"models": models}, score={"alpha": {"reward": "mine", "normalise": "published"}})
    with pytest.raises(ConfigError, match="not for judge"):
        parsed(rewards={"models": models}, score={"alpha": {"reward": "judge", "normalise": "published"}})


def test_a_member_of_the_ensemble_cannot_be_the_judge() -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.rewards\[0\] 'world/true' also labels or scores"):
        parsed(score={"alpha": {"rewards": {"world/style": 1, "world/true": 0.1}}})
