"""The branch `evaluate.features`."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.config.features import DINOV2_BASE
from prefopt.config.load import dump_config
from prefopt.config.rewards import CLIP_L
from prefopt.errors import ConfigError
from prefopt.evaluation.lineage import shown_config
from tests.kit.data import config_tree


def parsed(place: Path, **evaluate: Any) -> RunConfig:
    tree = config_tree(place, [{"kind": "world", "pairs": 2}])
    return parse_config({**tree, "evaluate": {**tree["evaluate"], **evaluate}}, "my.yaml")


@pytest.mark.parametrize(
    ("given", "kind", "weights"),
    [
        ({}, "vae", None),
        ({"features": {"kind": "vae"}}, "vae", None),
        ({"features": {"kind": "clip"}}, "clip", CLIP_L),
        ({"features": {"kind": "dinov2"}}, "dinov2", DINOV2_BASE),
        ({"features": {"kind": "dinov2", "weights": "s3://bucket/dino"}}, "dinov2", "s3://bucket/dino"),
    ],
)
def test_kinds_and_where_their_weights_lie(
    tmp_path: Path, given: dict[str, Any], kind: str, weights: str | None
) -> None:
    config = parsed(tmp_path, **given)
    assert config.evaluate.features is not None
    assert config.evaluate.features.kind == kind
    assert getattr(config.evaluate.features, "weights", None) == weights


def test_null_measures_nothing_and_survives_a_dump(tmp_path: Path) -> None:
    config = parsed(tmp_path, features=None)
    assert config.evaluate.features is None
    assert "features: null" in dump_config(config)
    assert shown_config(config)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"kind": "clop"}, "clop"),
        ({"weights": "a/b"}, "kind"),
        ({"kind": "vae", "weights": "a/b"}, "unknown key 'evaluate.features.weights'"),
        ({"kind": "clip", "wieghts": "a/b"}, "did you mean 'weights'"),
        ({"kind": "clip", "weights": ""}, "must name a hub id"),
        ({"kind": "dinov2", "weights": " a/b"}, "must name a hub id"),
    ],
)
def test_what_is_refused(tmp_path: Path, features: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml: .*evaluate\.features") as found:
        parsed(tmp_path, features=features)
    assert words in str(found.value)


def test_a_report_shows_no_directory_of_this_machine(tmp_path: Path) -> None:
    shown = shown_config(parsed(tmp_path, features={"kind": "clip", "weights": str(tmp_path / "my-clip")}))
    assert "my-clip" in shown
    assert str(tmp_path) not in shown
