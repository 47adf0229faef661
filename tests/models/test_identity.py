from pathlib import Path

import pytest

from prefopt.config.root import ModelConfig
from prefopt.errors import InputError
from prefopt.models.identity import model_digest, with_absolute_path
from tests.kit.models import tiny_pipeline


def test_a_digest_belongs_to_the_weights_and_configs(tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_pipeline(tmp_path / "model")))
    before = model_digest(model)
    (tmp_path / "model" / "notes.md").write_text("not part of the model")
    assert model_digest(model) == before
    config = tmp_path / "model" / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    assert model_digest(model) != before


@pytest.mark.parametrize("path", ["./missing", "models/sd15/missing", "/missing", "missing"])
def test_a_missing_directory_is_no_hub_id(path: str) -> None:
    with pytest.raises(InputError, match="There is no model directory"):
        model_digest(ModelConfig(path=path))


def test_hub_ids_differ_by_revision() -> None:
    main, other = (ModelConfig(path="owner/model", revision=revision) for revision in (None, "abc"))
    assert model_digest(main) != model_digest(other)


def test_a_directory_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert with_absolute_path(ModelConfig(path="model")).path == str(tmp_path / "model")
    assert with_absolute_path(ModelConfig(path="owner/model")).path == "owner/model"
