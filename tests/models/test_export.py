import hashlib
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from prefopt.config.root import ModelConfig
from prefopt.models.export import export_full
from prefopt.models.loading import load_pipeline
from prefopt.models.sources import TrainingWeights, base_weights
from tests.kit.models import RESOLUTION, tiny_pipeline


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _images(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    options = {"height": RESOLUTION, "width": RESOLUTION, "num_inference_steps": 2, "output_type": "pt"}
    return pipeline("a red circle", generator=torch.Generator().manual_seed(0), **options).images


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelConfig, dict[str, torch.Tensor]]:
    root = tmp_path_factory.mktemp("export")
    model = ModelConfig(path=str(tiny_pipeline(root / "base")))
    weights = {name: value + 0.01 for name, value in load_pipeline(model).unet.state_dict().items()}
    base = base_weights(model)
    for name in ("first", "second"):
        export_full(root / name, model, TrainingWeights(base, base, base), weights)
    return root, model, weights


def test_diffusers_loads_it_and_it_gives_the_tuned_outputs(
    exported: tuple[Path, ModelConfig, dict[str, torch.Tensor]],
) -> None:
    root, model, weights = exported
    tuned = load_pipeline(model)
    base = _images(tuned)
    tuned.unet.load_state_dict(weights)
    loaded = StableDiffusionPipeline.from_pretrained(str(root / "first"))
    assert torch.equal(_images(loaded), _images(tuned))
    assert not torch.equal(_images(loaded), base)


def test_bytes_are_reproducible_and_name_no_place(
    exported: tuple[Path, ModelConfig, dict[str, torch.Tensor]],
) -> None:
    root, _, _ = exported
    assert _digests(root / "first") == _digests(root / "second")
    assert all(str(root).encode() not in path.read_bytes() for path in (root / "first").rglob("*") if path.is_file())
