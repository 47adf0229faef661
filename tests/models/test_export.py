import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open

from prefopt.config.evaluate import SamplerConfig
from prefopt.config.root import ModelConfig
from prefopt.evaluation.generation import ImageGenerator, initial_noise, with_weights
from prefopt.models.export import export_full
from prefopt.models.loading import load_pipeline
from prefopt.models.sources import TrainingWeights, base_weights, find_weights
from prefopt.models.unets import load_unet
from tests.kit.models import LATENT_SHAPE, RESOLUTION, TINY, tiny_vae
from tests.kit.weights import lora_directory

PROMPTS = ["a red circle", "a blue square"]
SAMPLER = SamplerConfig(steps=3, guidance=3.0, resolution=RESOLUTION)
ELSEWHERE = """
import json, sys
import numpy, torch
from diffusers import DDIMScheduler, DiffusionPipeline

torch.set_num_threads(1)
for case in json.load(open(sys.argv[1])):
    pipeline = DiffusionPipeline.from_pretrained(case["model"])
    for part in pipeline.components.values():
        # For weights that might be trained torch takes other kernels, which moves the last bits of an image.
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    if case["lora"]:
        pipeline.load_lora_weights(case["lora"])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    latents = torch.from_numpy(numpy.load(case["noise"]))
    images = pipeline(case["prompts"], latents=latents, output_type="np", **case["options"]).images
    numpy.save(case["images"], images)
assert not [name for name in sys.modules if name.split(".")[0] == "prefopt"]
"""


@dataclass(frozen=True)
class Case:
    """A model as it was written, and as this project draws with it."""

    model: ModelConfig
    weights: TrainingWeights
    place: Path
    """What export wrote."""

    def images(self) -> np.ndarray:
        base = load_pipeline(self.model)
        made = find_weights(str(self.place), "kit", [self.weights.init.below])
        tuned = with_weights(base, self.model, made, self.weights.base)
        images = ImageGenerator(tuned, SAMPLER, batch=2, seed=0).images([(prompt, 0) for prompt in PROMPTS])
        return np.stack([np.asarray(image) for image in images])

    def elsewhere(self, scratch: Path) -> dict[str, Any]:
        """For the other process."""
        lora = (self.place / "pytorch_lora_weights.safetensors").exists()
        noise = np.stack([initial_noise(LATENT_SHAPE, 0, prompt, 0) for prompt in PROMPTS])
        np.save(scratch / "noise.npy", noise)
        size = {"height": RESOLUTION, "width": RESOLUTION}
        return {
            "model": self.weights.init.below.place if lora else str(self.place),
            "lora": str(self.place) if lora else None,
            "noise": str(scratch / "noise.npy"),
            "prompts": PROMPTS,
            "options": {"num_inference_steps": SAMPLER.steps, "guidance_scale": SAMPLER.guidance, **size},
            "images": str(scratch / f"{self.place.parent.name}-{self.place.name}.npy"),
        }


def _cases(root: Path, family: str) -> dict[str, Case]:
    model = ModelConfig(path=str(TINY[family](root / "base")))
    base = base_weights(model)
    shutil.copytree(root / "base", root / "other")
    DiffusionPipeline.from_pretrained(str(TINY[family](root / "else", seed=5))).unet.save_pretrained(
        str(root / "other" / "unet")
    )
    other = find_weights(str(root / "other"), "train.init_from", [base])
    plain, moved = TrainingWeights(base, base, base), TrainingWeights(base, other, base)
    tuned = {name: value + 0.02 for name, value in load_unet(base, base).state_dict().items()}
    for name in ("full", "again"):
        export_full(root / name, model, plain, tuned)
    lora_directory(root / "lora", load_unet(base, base))
    lora_directory(root / "upon", load_unet(other, base), seed=1)
    named = {"full": plain, "lora": plain, "upon": moved}
    return {name: Case(model, weights, root / name) for name, weights in named.items()}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    found = {family: _cases(tmp_path_factory.mktemp(family), family) for family in TINY}
    return {f"{family}-{name}": case for family, some in found.items() for name, case in some.items()}


@pytest.fixture(scope="module")
def drawn_elsewhere(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Images of all cases by plain diffusers, in a process that never imports this project."""
    scratch = tmp_path_factory.mktemp("elsewhere")
    told = {name: case.elsewhere(scratch) for name, case in cases.items()}
    (scratch / "cases.json").write_text(json.dumps(list(told.values())))
    (scratch / "draw.py").write_text(ELSEWHERE)
    subprocess.run([sys.executable, "-I", "draw.py", "cases.json"], cwd=scratch, check=True, timeout=240)
    return {name: np.load(case["images"]) for name, case in told.items()}


NAMES = [f"{family}-{name}" for family in TINY for name in ("full", "lora", "upon")]


@pytest.mark.parametrize("name", NAMES)
def test_plain_diffusers_draws_the_same_images(
    cases: dict[str, Case], drawn_elsewhere: dict[str, np.ndarray], name: str
) -> None:
    mine = cases[name].images()
    assert np.array_equal(mine, (drawn_elsewhere[name] * 255).round().astype(np.uint8))
    base = load_pipeline(cases[name].model)
    plain = ImageGenerator(base, SAMPLER, batch=2, seed=0).images([(prompt, 0) for prompt in PROMPTS])
    assert not np.array_equal(mine, np.stack([np.asarray(image) for image in plain]))


@pytest.mark.parametrize("family", list(TINY))
def test_bytes_are_reproducible_and_name_no_place(cases: dict[str, Case], family: str) -> None:
    root = cases[f"{family}-full"].place.parent
    first, second = (
        {str(path.relative_to(root / name)): path for path in (root / name).rglob("*") if path.is_file()}
        for name in ("full", "again")
    )
    assert first.keys() == second.keys()
    for name, path in first.items():
        content = path.read_bytes()
        assert hashlib.sha256(content).digest() == hashlib.sha256(second[name].read_bytes()).digest()
        assert str(root).encode() not in content


@pytest.mark.parametrize("family", list(TINY))
def test_a_full_model_is_complete_and_all_safetensors(cases: dict[str, Case], family: str) -> None:
    case = cases[f"{family}-full"]
    base = Path(case.model.path)
    names = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
    assert {str(path.relative_to(case.place)) for path in case.place.rglob("*") if path.is_file()} == names
    assert not [path for path in case.place.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]


def test_a_given_vae_goes_into_the_model(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["sdxl-full"]
    tiny_vae(seed=9, scaling_factor=0.5).save_pretrained(str(tmp_path / "vae"))
    model = case.model.model_copy(update={"vae": str(tmp_path / "vae")})
    export_full(tmp_path / "model", model, case.weights, load_unet(case.weights.base, case.weights.base).state_dict())
    vae = DiffusionPipeline.from_pretrained(str(tmp_path / "model")).vae
    assert vae.config.scaling_factor == 0.5
    assert all(torch.equal(v, tiny_vae(seed=9).state_dict()[k]) for k, v in vae.state_dict().items())


@pytest.mark.parametrize("family", list(TINY))
def test_a_run_in_half_precision_stores_the_unet_so(cases: dict[str, Case], tmp_path: Path, family: str) -> None:
    case = cases[f"{family}-full"]
    base = case.weights.base
    export_full(tmp_path / "model", case.model, case.weights, load_unet(base, base).state_dict(), torch.bfloat16)
    assert _stored_dtypes(tmp_path / "model" / "unet") == {"BF16"}
    assert _stored_dtypes(tmp_path / "model" / "text_encoder") == {"F32"}
    for dtype in (torch.float32, torch.bfloat16):
        pipeline = DiffusionPipeline.from_pretrained(str(tmp_path / "model"), torch_dtype=dtype)
        pipeline(PROMPTS, num_inference_steps=1, height=RESOLUTION, width=RESOLUTION)


def _stored_dtypes(directory: Path) -> set[str]:
    (weights,) = directory.glob("*.safetensors")
    with safe_open(str(weights), framework="pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
