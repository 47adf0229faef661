import shutil
from pathlib import Path

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.config.root import ModelConfig
from prefopt.errors import InputError
from prefopt.models.identity import model_digest, vae_digest, with_absolute_places
from tests.kit.models import tiny_pipeline, tiny_vae


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


def test_directories_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "vae", "init"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    config = with_absolute_places(_config("model", "vae", "init", "owner/reference"))
    assert (config.model.path, config.model.vae) == (str(tmp_path / "model"), str(tmp_path / "vae"))
    assert (config.train.init_from, config.train.reference_from) == (str(tmp_path / "init"), "owner/reference")
    tree = _config("model", None, None, None).model_dump(by_alias=True)
    tree["score"]["panel"] = {"snapshots": ["init", "owner/policy"]}
    panel = with_absolute_places(parse_config(tree, "kit")).score.panel
    assert panel is not None
    assert panel.snapshots == (str(tmp_path / "init"), "owner/policy")
    config = with_absolute_places(_config("owner/model", None, None, None))
    assert (config.model.path, config.model.vae, config.train.init_from) == ("owner/model", None, None)


def test_the_embedded_model_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "world").mkdir()
    monkeypatch.chdir(tmp_path)
    assert with_absolute_places(_config("world", None, "world", None)).train.init_from == "world"


def _config(path: str, vae: str | None, init: str | None, reference: str | None) -> RunConfig:
    tree = {
        "name": "kit",
        "model": {"path": path, "vae": vae},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "train": {"init_from": init, "reference_from": reference},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


def test_the_vaes_digest_belongs_to_its_files_alone(tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_pipeline(tmp_path / "model")))
    before, whole = vae_digest(model), model_digest(model)
    unet = tmp_path / "model" / "unet" / "config.json"
    unet.write_text(unet.read_text() + " ")
    assert vae_digest(model) == before
    assert model_digest(model) != whole
    shutil.copytree(tmp_path / "model" / "vae", tmp_path / "alone")
    assert vae_digest(ModelConfig(path=model.path, vae=str(tmp_path / "alone"))) == before
    tiny_vae(seed=9).save_pretrained(str(tmp_path / "other"))
    assert vae_digest(ModelConfig(path=model.path, vae=str(tmp_path / "other"))) != before


def test_a_vae_on_the_hub_is_known_by_its_name(tmp_path: Path) -> None:
    digests = {vae_digest(ModelConfig(path="owner/model", vae=vae)) for vae in (None, "owner/vae", "owner/other")}
    assert len(digests) == 3
    with pytest.raises(InputError, match=r"There is no directory \./nowhere. Check model.vae"):
        vae_digest(ModelConfig(path="owner/model", vae="./nowhere"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    place = tiny_pipeline(tmp_path / "model")
    model = ModelConfig(path=str(place))
    (place / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"also pickled")
    (place / "safety_checker").mkdir()
    (place / "safety_checker" / "pytorch_model.bin").write_bytes(b"never loaded")
    model_digest(model)
    (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.path: .*unet/diffusion_pytorch_model\.bin is pickled.*NEW"):
        model_digest(model)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "pytorch_model.bin"])
def test_a_pickle_alone_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"pickled")
    for digest, model in (
        (model_digest, ModelConfig(path=str(tmp_path))),
        (vae_digest, ModelConfig(path="owner/model", vae=str(tmp_path))),
    ):
        with pytest.raises(InputError, match="is pickled, and loading a pickle can run code"):
            digest(model)
