import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt import __version__
from prefopt.config import RunConfig, parse_config
from prefopt.config.root import ModelConfig
from prefopt.models.card import model_card
from prefopt.models.export import export_full
from prefopt.models.families import ModelFamily, model_family
from prefopt.models.sources import TrainingWeights, WeightsSource, training_weights
from prefopt.models.unets import load_unet
from tests.kit.models import TINY, tiny_pipeline, tiny_unet
from tests.kit.weights import lora_directory

KEYS = {"ingest": "1" * 64, "inject": "2" * 64, "score": "3" * 64}
STEPS = [{"step": n, "loss": 1.0 / n, "accuracy": 0.5, "grad_norm": None, "skipped": n == 20} for n in range(1, 21)]


def _config(model: str, *, vae: str | None = None, **train: Any) -> RunConfig:
    tree = {
        "name": "kit",
        "model": {"path": model, "vae": vae},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "score": {"resolution": 32},
        "train": {"steps": 20, "objective": {"name": "dpo", "beta": 1234.0}, **train},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


def _card(config: RunConfig, weights: TrainingWeights, family: ModelFamily | None = None) -> str:
    return model_card(config, family or model_family(config.model), weights, KEYS, STEPS)


def _front(card: str) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return front


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("card") / "base")


@pytest.mark.parametrize("family", list(TINY))
def test_front_matter_is_what_the_hub_reads(tmp_path: Path, family: str) -> None:
    place = str(TINY[family](tmp_path / "base"))
    kind = {"sd15": "stable-diffusion", "sdxl": "stable-diffusion-xl"}[family]
    for method, relation, tags in (("lora", "adapter", [kind, "lora"]), ("full", "finetune", [kind])):
        config = _config(place, method=method, objective={"name": "adaptive_dpo"})
        assert _front(_card(config, training_weights(config))) == {
            "base_model": "base",
            "base_model_relation": relation,
            "library_name": "diffusers",
            "pipeline_tag": "text-to-image",
            "tags": [*tags, "preference-optimization", "adaptive-dpo", "prefopt"],
        }


def test_lineage_and_training_are_told(base: Path) -> None:
    config = _config(str(base), method="full", reference_from="owner/reference", precision="bf16")
    weights = training_weights(config)
    card = _card(config, weights)
    assert f"| base model | base | {weights.base.digest[:12]} |" in card
    assert f"| reference | owner/reference | {weights.reference.digest[:12]} |" in card
    assert "| inject | 222222222222 |" in card
    assert f"prefopt {__version__}" in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings["objective"] == {"name": "dpo", "beta": 1234.0}
    assert (settings["steps"], settings["precision"], settings["pairs per step"]) == (20, "bf16", 32)


def test_figures_are_means_over_the_end_without_skipped_steps(base: Path) -> None:
    config = _config(str(base))
    card = _card(config, training_weights(config))
    assert f"| loss | {1 / 19:.4g} |" in card
    assert "gradient norm" not in card


def test_an_adapter_names_the_model_that_it_belongs_onto(base: Path, tmp_path: Path) -> None:
    config = _config(str(base), init_from=str(tiny_pipeline(tmp_path / "start", seed=5)))
    weights = training_weights(config)
    card = _card(config, weights)
    assert f"onto start (digest {weights.init.digest[:12]})" in card
    assert "not onto its base model base" in card
    assert _front(card)["base_model"] == "start"
    assert "not onto" not in _card(_config(str(base)), training_weights(_config(str(base))))


def test_an_adapter_to_start_from_is_named_with_its_model(base: Path, tmp_path: Path) -> None:
    place = lora_directory(tmp_path / "adapter", tiny_unet())
    config = _config(str(base), init_from=str(place))
    assert "| start of the policy | adapter (LoRA on base) |" in _card(config, training_weights(config))


def test_it_tells_no_place(base: Path, tmp_path: Path) -> None:
    start = tiny_pipeline(tmp_path / "start", seed=5)
    config = _config(str(base), vae=str(tmp_path / "vae"), init_from=str(start), reference_from=str(start))
    card = _card(config, training_weights(config))
    assert str(tmp_path) not in card
    assert str(base.parent) not in card
    assert "| VAE in place of the base model's | vae |" in card
    assert card == _card(config, training_weights(config))


def test_hub_models_are_loaded_by_their_name(base: Path) -> None:
    source = WeightsSource("owner/model", "owner/model", None, "0" * 64)
    card = _card(_config(str(base)), TrainingWeights(source, source, source))
    assert 'StableDiffusionPipeline.from_pretrained("owner/model")' in card
    assert _front(card)["base_model"] == "owner/model"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_lines_that_load_it_work(base: Path, tmp_path: Path, method: str) -> None:
    config = _config(str(base), method=method)
    weights = training_weights(config)
    unet = load_unet(weights.base, weights.base)
    if method == "full":
        export_full(tmp_path / "tuned", ModelConfig(path=str(base)), weights, unet.state_dict())
    else:
        lora_directory(tmp_path / "tuned", unet)
    (code,) = re.findall(r"```python\n(.*?)```", _card(config, weights), flags=re.DOTALL)
    assert len(code.splitlines()) <= 5
    code = code.replace("path/to/this/directory", str(tmp_path / "tuned")).replace("path/to/base", str(base))
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["image"].size == (32, 32)
