import json
import shutil
from pathlib import Path

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.config.panel import PanelConfig
from prefopt.config.root import ModelConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.identity import model_digest
from prefopt.models.sources import LORA_BASE, local_directory, snapshot_weights, training_weights
from tests.kit.models import tiny_pipeline, tiny_unet
from tests.kit.weights import finished_run, lora_directory


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    tiny_pipeline(root / "base")
    tiny_pipeline(root / "other", seed=5)
    lora_directory(root / "lora", tiny_unet())
    tiny_pipeline(root / "sft" / "model", seed=7)
    finished_run(root / "sft", {})
    lora_directory(root / "dpo" / "model", tiny_unet(), seed=1)
    finished_run(root / "dpo", {LORA_BASE: _digest(root / "base")})
    lora_directory(root / "upon" / "model", tiny_unet(), seed=2)
    finished_run(root / "upon", {LORA_BASE: _digest(root / "other")})
    return root


def _digest(model: Path) -> str:
    return model_digest(ModelConfig(path=str(model)))


def _config(base: Path, init: str | Path | None = None, reference: str | Path | None = None) -> RunConfig:
    tree = {
        "name": "kit",
        "model": {"path": str(base)},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "train": {"init_from": init and str(init), "reference_from": reference and str(reference)},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


def test_all_are_the_base_by_default(place: Path) -> None:
    weights = training_weights(_config(place / "base"))
    assert weights.base == weights.init == weights.reference
    assert weights.base.digest == _digest(place / "base")
    assert weights.base.name == "base"
    assert weights.digests == dict.fromkeys(("init", "model", "reference"), weights.base.digest)


def test_full_models_are_found_in_directories_runs_and_on_the_hub(place: Path) -> None:
    weights = training_weights(_config(place / "base", place / "other", place / "sft"))
    assert weights.init.digest == _digest(place / "other")
    (model,) = (place / "sft" / "train").glob("*/model")
    assert weights.reference.digest == _digest(model)
    assert (weights.reference.name, weights.reference.place) == ("sft", str(model))
    assert weights.init.onto is weights.reference.onto is None
    weights = training_weights(_config(place / "base", "owner/model", "owner/model@v2"))
    assert (weights.reference.place, weights.reference.revision) == ("owner/model", "v2")
    assert weights.init.digest == model_digest(ModelConfig(path="owner/model"))
    assert weights.reference.digest == model_digest(ModelConfig(path="owner/model", revision="v2"))


def test_adapters_lie_on_the_base(place: Path) -> None:
    weights = training_weights(_config(place / "base", place / "lora", place / "dpo"))
    for source in (weights.init, weights.reference):
        assert source.below == source.onto == weights.base
    assert len(set(weights.digests.values())) == 3
    (model,) = (place / "dpo" / "train").glob("*/model")
    assert training_weights(_config(place / "base", model)).init.digest == weights.reference.digest


def test_an_adapters_digest_knows_what_it_lies_on(place: Path) -> None:
    on_base, on_other = (training_weights(_config(place / name, place / "lora")) for name in ("base", "other"))
    assert on_base.init.digest != on_other.init.digest


def test_places_enter_no_digest(place: Path, tmp_path: Path) -> None:
    for name in ("base", "lora", "sft", "dpo"):
        shutil.copytree(place / name, tmp_path / name)
    for init, reference in (("lora", "sft"), ("sft", "dpo")):
        here, there = (
            training_weights(_config(root / "base", root / init, root / reference)) for root in (place, tmp_path)
        )
        assert here.digests == there.digests


def test_an_adapter_of_another_model_is_refused_and_both_are_named(place: Path) -> None:
    base, other = _digest(place / "base"), _digest(place / "other")
    with pytest.raises(InputError, match=rf"init_from.*/upon/.*{other[:12]}, not on base \(digest {base[:12]}\)"):
        training_weights(_config(place / "base", place / "upon"))
    assert training_weights(_config(place / "other", place / "upon")).init.below.name == "other"


def test_the_references_adapter_may_lie_on_the_policys_start(place: Path) -> None:
    weights = training_weights(_config(place / "base", place / "other", place / "upon"))
    assert weights.reference.onto == weights.init
    with pytest.raises(InputError, match=r"not on base .* or sft"):
        training_weights(_config(place / "base", place / "sft", place / "upon"))


def test_the_embedded_model_can_be_named(place: Path) -> None:
    assert training_weights(_config(place / "base", "world")).init.digest == model_digest(ModelConfig(path="world"))


@pytest.mark.parametrize("missing", ["./nowhere", "/nowhere", "a/b/c"])
def test_what_is_not_there_is_named(place: Path, missing: str) -> None:
    with pytest.raises(InputError, match=r"train\.reference_from: there is no directory"):
        training_weights(_config(place / "base", reference=missing))


def test_a_directory_of_something_else_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a model in diffusers format"):
        training_weights(_config(place / "base", tmp_path))


@pytest.mark.parametrize("name", ["pytorch_lora_weights.bin", "model.ckpt", "model.pt"])
def test_pickles_are_refused(place: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"pickled")
    with pytest.raises(InputError, match=f"train.init_from: .*{name} is pickled") as caught:
        training_weights(_config(place / "base", tmp_path))
    assert caught.value.exit_code == 3


def test_an_unfinished_run_is_refused(place: Path, tmp_path: Path) -> None:
    run = shutil.copytree(place / "sft", tmp_path / "run")
    (manifest,) = run.glob("train/*/manifest.json")
    manifest.unlink()
    with pytest.raises(InputError, match="has no finished train stage"):
        training_weights(_config(place / "base", run))
    (run / "run.json").write_text(json.dumps({"score": "0" * 64}))
    with pytest.raises(InputError, match="has no finished train stage"):
        training_weights(_config(place / "base", run))


def test_a_run_may_lie_on_an_object_store(place: Path) -> None:
    """A `file://` URI goes through the same code as s3://."""
    for run in ("sft", "dpo"):
        near, far = (
            training_weights(_config(place / "base", name)).init for name in (place / run, f"file://{place}/{run}")
        )
        assert near.digest == far.digest
        with local_directory(Storage(far.place)) as copy:
            assert copy != Path(near.place)
            assert {p.relative_to(copy) for p in copy.rglob("*.safetensors")} == {
                p.relative_to(near.place) for p in Path(near.place).rglob("*.safetensors")
            }
        assert not copy.exists()
    with pytest.raises(InputError, match="only an earlier run can be named"):
        training_weights(_config(place / "base", f"file://{place}/lora"))


def _snapshots(place: Path, *names: str, reference: str | None = None) -> tuple[str, ...]:
    config = _config(place / "base", None, reference and place / reference)
    panel = PanelConfig(rewards=("world/style", "world/taste"), snapshots=tuple(str(place / name) for name in names))
    score = config.score.model_copy(update={"panel": panel})
    return tuple(source.digest for source in snapshot_weights(config.model_copy(update={"score": score})))


def test_snapshots_are_found_as_starts_are(place: Path) -> None:
    weights = training_weights(_config(place / "base", place / "lora", place / "sft"))
    assert _snapshots(place, "sft", "lora") == (weights.reference.digest, weights.init.digest)
    assert snapshot_weights(_config(place / "base")) == ()


def test_a_snapshot_that_can_say_nothing_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match=r"score\.panel\.snapshots\.1: .*base is the reference itself"):
        _snapshots(place, "lora", "base")
    assert _snapshots(place, "base", reference="lora") == (_digest(place / "base"),)
    shutil.copytree(place / "lora", place / "again", dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"snapshots\.1: .*again holds the same weights as a snapshot before it"):
        _snapshots(place, "lora", "again")
    with pytest.raises(InputError, match=r"score\.panel\.snapshots\.0: there is no directory .*nowhere"):
        _snapshots(place, "nowhere")
    with pytest.raises(InputError, match=r"score\.panel\.snapshots\.0: the adapter in .*/upon/"):
        _snapshots(place, "upon")
