import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from prefopt.world.pretrain import PretrainReport, pretrain, training_images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PretrainReport]:
    out = tmp_path_factory.mktemp("pretrained")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    report = pretrain(out, vae_steps=50, steps=60, images=192, seed=3, batch=16)
    torch.set_num_threads(threads)
    return out, report


def test_a_short_run_lowers_both_losses(run: tuple[Path, PretrainReport]) -> None:
    _, report = run
    assert report.vae_last < 0.9 * report.vae_first
    assert report.unet_last < 0.8 * report.unet_first


def test_the_saved_directory_loads_and_samples(run: tuple[Path, PretrainReport]) -> None:
    out, report = run
    pipeline = StableDiffusionPipeline.from_pretrained(out, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(["a red circle"] * 2, num_inference_steps=2, output_type="np").images
    assert images.shape == (2, 32, 32, 3)
    assert np.isfinite(images).all()
    assert pipeline.vae.config.scaling_factor == pytest.approx(report.scaling_factor)
    assert json.loads((out / "pretraining.json").read_text()) == dataclasses.asdict(report)
    assert (out / "tokenizer" / "vocab.json").exists()


def test_training_pictures_follow_the_seed() -> None:
    images, captions = training_images(5, 0)
    again, same = training_images(5, 0)
    other, _ = training_images(5, 1)
    assert images.shape == (5, 3, 32, 32)
    assert torch.equal(images, again)
    assert captions == same
    assert not torch.equal(images, other)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("a", "b"):
        pretrain(tmp_path / name, vae_steps=2, steps=2, images=64, seed=5, batch=8)
    torch.set_num_threads(threads)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()
