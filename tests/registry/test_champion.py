"""From a run to a champion, and the proof that it is still there."""

import json
from pathlib import Path

import pytest

from prefopt.errors import InputError
from prefopt.models.sources import find_weights
from prefopt.registry import champion_of, check_champion, promotable
from tests.kit.evaluation import evaluation_context


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose train stage is finished."""
    context = evaluation_context(tmp_path)
    manifest = context.parents["train"].manifest
    place = tmp_path / "run" / "train" / manifest.key[:12]
    place.parent.mkdir(parents=True)
    (tmp_path / "train").rename(place)
    (tmp_path / "run" / "run.json").write_text(json.dumps({"train": manifest.key}))
    return tmp_path / "run"


def test_a_champion_is_what_its_run_trained(run: Path) -> None:
    made = champion_of(str(run))
    assert made.digest == find_weights(str(run), "kit", []).digest
    assert check_champion(made).path("") == str(run / "train" / made.train[:12] / "model")
    assert champion_of(str(run)) == made


def test_a_changed_or_missing_file_is_named(run: Path) -> None:
    made = champion_of(str(run))
    weights = run / "train" / made.train[:12] / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(InputError, match=r"not what was promoted: model/unet/.*content differs.*rollback"):
        check_champion(made)
    weights.unlink()
    with pytest.raises(InputError, match=r"its train stage is not there any more.*rollback NUMBER"):
        check_champion(made)
    weights.write_bytes(before)
    check_champion(made)


def test_a_run_without_a_model_cannot_be_promoted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished train stage"):
        champion_of(str(tmp_path))


def test_only_a_model_whose_files_verify_is_promotable(run: Path) -> None:
    made = promotable(str(run))
    assert made == champion_of(str(run))
    weights = run / "train" / made.train[:12] / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(InputError, match=r"not what its training wrote: model/unet/.*It was not promoted"):
        promotable(str(run))
