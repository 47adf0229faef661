"""What identifies image features, and where their weights are looked for."""

import json
import shutil
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.features import embedder_spec, feature_resources
from prefopt.models.identity import with_absolute_places
from prefopt.stages.keys import STAGES, Outside
from tests.features.checkpoints import dinov2_state, feature_config, write_dinov2
from tests.kit.models import tiny_vae
from tests.kit.s3 import object_store

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def version(place: Path, features: dict[str, str] | None, **branches: object) -> str | None:
    spec = embedder_spec(feature_config(place, features, **branches))
    return spec.version if spec else None


def evaluate_key(place: Path, features: dict[str, str] | None) -> str:
    config = feature_config(place, features)
    return json.dumps(STAGES["evaluate"].slice(config, Outside((), [])), sort_keys=True)


def test_a_copy_has_the_same_version_and_other_weights_another(tmp_path: Path) -> None:
    first = write_dinov2(tmp_path / "a", dinov2_state(5))
    second = Path(shutil.copytree(first, tmp_path / "b"))
    other = write_dinov2(tmp_path / "c", dinov2_state(6))
    known = [{"kind": "dinov2", "weights": str(place)} for place in (first, second, other)]
    assert version(tmp_path, known[0]) == version(tmp_path, known[1]) != version(tmp_path, known[2])
    assert version(tmp_path, known[0], rewards={"precision": "bf16"}) != version(tmp_path, known[0])
    processor = json.loads((second / "preprocessor_config.json").read_text())
    (second / "preprocessor_config.json").write_text(json.dumps({**processor, "resample": 2}))
    assert version(tmp_path, known[0]) != version(tmp_path, known[1])


def test_the_content_of_weights_enters_evaluates_key_and_their_place_does_not(tmp_path: Path) -> None:
    first = write_dinov2(tmp_path / "a", dinov2_state(5))
    second = Path(shutil.copytree(first, tmp_path / "b"))
    other = write_dinov2(tmp_path / "c", dinov2_state(6))
    keys = [evaluate_key(tmp_path, {"kind": "dinov2", "weights": str(place)}) for place in (first, second, other)]
    assert keys[0] == keys[1] != keys[2]
    assert str(tmp_path) not in keys[0]
    kinds = {evaluate_key(tmp_path, None), evaluate_key(tmp_path, {"kind": "vae"}), keys[0]}
    assert len(kinds) == 3


def test_vae_features_are_known_by_the_vae(tmp_path: Path) -> None:
    tiny_vae(seed=7).save_pretrained(str(tmp_path / "vae"))
    own = version(tmp_path, {"kind": "vae"})
    other = version(tmp_path, {"kind": "vae"}, model={"path": "world", "vae": str(tmp_path / "vae")})
    assert own != other
    assert version(tmp_path, None) is None


def test_of_a_hub_id_nothing_is_asked_or_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    features = {"kind": "dinov2", "weights": f"owner/name@{COMMIT}"}
    assert version(tmp_path, features)
    spec = embedder_spec(feature_config(tmp_path, features))
    assert spec is not None
    with pytest.raises(InputError, match=r"evaluate.features.weights: cannot fetch"):
        spec.load()
    write_dinov2(tmp_path / "hub" / "models--owner--name" / "snapshots" / COMMIT, dinov2_state(5))
    assert spec.load().name == "dinov2"


def test_weights_on_an_object_store(tmp_path: Path) -> None:
    local = write_dinov2(tmp_path / "a", dinov2_state(5))
    with object_store() as uri:
        storage = Storage(f"{uri}/dino")
        for path in local.iterdir():
            storage.write_bytes(path.name, path.read_bytes())
        spec = embedder_spec(feature_config(tmp_path, {"kind": "dinov2", "weights": storage.uri}))
        assert spec is not None
        assert spec.version == version(tmp_path, {"kind": "dinov2", "weights": str(local)})
        assert spec.load().name == "dinov2"


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluate.features.weights: there is no directory /no/such/place"):
        version(tmp_path, {"kind": "clip", "weights": "/no/such/place"})


def test_places_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dino").mkdir()
    monkeypatch.chdir(tmp_path)
    found = with_absolute_places(feature_config(tmp_path, {"kind": "dinov2", "weights": "dino"}))
    assert found.evaluate.features is not None
    assert getattr(found.evaluate.features, "weights", None) == str(tmp_path / "dino")


def test_resources(tmp_path: Path) -> None:
    assert feature_resources(feature_config(tmp_path, {"kind": "vae"})).memory == 0
    exact = feature_resources(feature_config(tmp_path, {"kind": "dinov2"}))
    half = feature_resources(feature_config(tmp_path, {"kind": "dinov2"}, rewards={"precision": "bf16"}))
    assert exact.memory == 2 * half.memory == 4 * 86.6e6
