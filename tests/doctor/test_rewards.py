"""What the doctor says of reward models."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.doctor.report import Check
from prefopt.doctor.rewards import check_features, check_rewards
from tests.features.checkpoints import dinov2_state, feature_config, write_dinov2
from tests.kit.data import config_tree
from tests.rewards.checkpoints import clip_config, clip_state, write_clip
from tests.rewards.endpoint import endpoint


def checks(tmp_path: Path, *names: str, **rewards: Any) -> dict[str, Check]:
    branches = {"evaluate": {"rewards": list(names)}, "rewards": rewards}
    config: RunConfig = parse_config(config_tree(tmp_path, [{"kind": "world", "pairs": 2}], **branches), "config")
    return {check.name: check for check in check_rewards(config)}


def test_the_worlds_rewards_need_nothing(tmp_path: Path) -> None:
    found = checks(tmp_path, "world/true", "world/taste")
    assert found.keys() == {"rewards"}
    assert found["rewards"].found == "world/taste, world/true."


def test_an_unknown_name(tmp_path: Path) -> None:
    found = checks(tmp_path, "nice", "no/one", models={"no/one": {"kind": "entry_point"}})
    assert found["rewards"].state == "problem"
    assert "no reward model 'nice'" in found["rewards"].found
    assert "No installed package registers 'no/one'" in found["rewards"].found


def test_weights_in_a_directory(tmp_path: Path) -> None:
    place = write_clip(tmp_path / "clip", clip_state(1), clip_config())
    models = {"clip": {"weights": str(place)}}
    assert checks(tmp_path, "clip", models=models)["reward clip weights"].state == "ok"
    (place / "merges.txt").unlink()
    found = checks(tmp_path, "clip", models=models)["reward clip weights"]
    assert (found.state, found.found) == ("problem", f"rewards.models.clip.weights: {place} lacks merges.txt.")
    found = checks(tmp_path, "clip", models={"clip": {"weights": "/no/such"}})["reward clip weights"]
    assert (found.state, found.advice) == ("problem", "Check rewards.models.clip.weights.")


def test_weights_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    commit = "0123456789abcdef0123456789abcdef01234567"
    models = {"clip": {"weights": f"owner/name@{commit}"}, "other": {"kind": "clip", "weights": "owner/name"}}
    found = checks(tmp_path, "clip", "other", models=models)
    assert found["reward clip weights"].state == "warning"
    assert "No commit is named" in found["reward other weights"].found
    assert "No commit is named" not in found["reward clip weights"].found
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert checks(tmp_path, "clip", models=models)["reward clip weights"].state == "problem"
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / commit
    write_clip(snapshot, clip_state(1), clip_config())
    assert checks(tmp_path, "clip", models=models)["reward clip weights"].state == "ok"


def test_published_pickles_need_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    found = checks(tmp_path, "hpsv2.1", "imagereward")
    assert found["reward hpsv2.1 weights"].state == found["reward imagereward weights"].state == "problem"
    assert "rewards.allow_pickles" in found["reward hpsv2.1 weights"].advice
    assert found["reward hpsv2.1 tokenizer"].state != "problem"
    allowed = checks(tmp_path, "hpsv2.1", "imagereward", allow_pickles=True)
    assert not [check for check in allowed.values() if check.state == "problem"]


def test_an_endpoint_is_asked_for_a_connection_alone(tmp_path: Path) -> None:
    with endpoint() as seen:
        models = {"judge": {"kind": "http", "url": f"http://u:s3cret@127.0.0.1:{seen.port}/x", "version": "1"}}
        found = checks(tmp_path, "judge", models=models)
        assert not seen.requests
    assert found["reward judge"].state == "ok"
    found = checks(tmp_path, "judge", models=models)
    assert found["reward judge"].state == "warning"
    assert "s3cret" not in found["reward judge"].found


def test_weights_of_image_features(tmp_path: Path) -> None:
    assert not list(check_features(feature_config(tmp_path, None)))
    assert not list(check_features(feature_config(tmp_path, {"kind": "vae"})))
    place = write_dinov2(tmp_path / "dino", dinov2_state(1))
    config = feature_config(tmp_path, {"kind": "dinov2", "weights": str(place)})
    assert [(check.name, check.state) for check in check_features(config)] == [("features", "ok")]
    (place / "config.json").unlink()
    (found,) = check_features(config)
    assert (found.state, found.found) == ("problem", f"evaluate.features.weights: {place} lacks config.json.")
