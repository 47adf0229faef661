"""A negative model in the unconditional branch, on tiny pipelines of both families."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from prefopt.config.evaluate import EvaluateConfig, SamplerConfig
from prefopt.config.root import ModelConfig
from prefopt.diffusion.negative import negative_guidance
from prefopt.evaluation.generation import ImageGenerator, initial_noise
from prefopt.evaluation.negative import mixed_negative, with_negative
from prefopt.models.families import Conditioning, predict
from prefopt.models.loading import load_pipeline
from tests.kit.models import LATENT_SHAPE, RESOLUTION, TINY, conditioning_of

TASK = ("a red circle", 0)
SAMPLER = SamplerConfig(steps=2, guidance=3.0, resolution=RESOLUTION)


@pytest.fixture(scope="module", params=list(TINY))
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelConfig]:
    made: Path = tmp_path_factory.mktemp("negative")
    return {
        name: ModelConfig(path=str(TINY[request.param](made / name, seed=seed)))
        for seed, name in enumerate(("positive", "negative"))
    }


def drawn(pipeline: Any) -> np.ndarray:
    (image,) = ImageGenerator(pipeline, SAMPLER, batch=1, seed=0).images([TASK])
    return np.asarray(image).astype(int)


def test_a_model_as_its_own_negative_is_plain_guidance(models: dict[str, ModelConfig]) -> None:
    pipeline = load_pipeline(models["positive"])
    guided = with_negative(pipeline, load_pipeline(models["positive"]).unet, SAMPLER.guidance)
    assert np.abs(drawn(guided) - drawn(pipeline)).max() <= 1
    assert pipeline.unet is not guided.unet


@torch.no_grad()
def test_the_first_latent_follows_the_papers_guidance(models: dict[str, ModelConfig]) -> None:
    """One step, taken by hand from eps = (w + 1) eps_pos(c) - w eps_neg(empty), w one less than the scale."""
    positive, negative = (load_pipeline(models[name]) for name in ("positive", "negative"))
    noise = torch.from_numpy(initial_noise(LATENT_SHAPE, 0, *TASK))[None]
    arguments = {"num_inference_steps": 1, "guidance_scale": 3.0, "height": RESOLUTION, "width": RESOLUTION}
    guided = with_negative(positive, negative.unet, 3.0)
    seen = guided(prompt=[TASK[0]], latents=noise.clone(), output_type="latent", **arguments).images

    scheduler = positive.scheduler
    scheduler.set_timesteps(1)
    t = scheduler.timesteps[0]
    start = scheduler.scale_model_input(noise * scheduler.init_noise_sigma, t)
    told, empty = (conditioning_of(positive, [text]) for text in (TASK[0], ""))
    if empty.pooled is not None:  # SDXL's pipeline takes zeros for an empty prompt
        empty = Conditioning(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled), empty.time_ids)
    at = torch.as_tensor(float(t))[None]
    mixed = negative_guidance(predict(positive.unet, start, at, told), predict(negative.unet, start, at, empty), w=2.0)
    expected = scheduler.step(mixed, t, noise * scheduler.init_noise_sigma).prev_sample
    assert torch.allclose(seen, expected, atol=1e-4)
    plain = positive(prompt=[TASK[0]], latents=noise.clone(), output_type="latent", **arguments).images
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_weights_are_mixed_by_their_offsets(models: dict[str, ModelConfig]) -> None:
    positive, negative = (load_pipeline(models[name]).unet for name in ("positive", "negative"))
    base = load_pipeline(models["positive"]).unet
    for value in base.parameters():
        value.data.mul_(0.5)

    def mix(a: float, b: float) -> dict[str, torch.Tensor]:
        return mixed_negative(base, positive, negative, positive_share=a, negative_share=b).state_dict()

    name = "conv_in.weight"
    known = {key: unet.state_dict()[name] for key, unet in (("t", base), ("p", positive), ("n", negative))}
    assert torch.allclose(mix(0.0, 0.0)[name], known["t"])
    assert torch.allclose(mix(1.0, 0.0)[name], known["p"], atol=1e-6)
    assert torch.allclose(mix(0.0, 1.0)[name], known["n"], atol=1e-6)
    expected = known["t"] + 0.25 * (known["p"] - known["t"]) + 2.0 * (known["n"] - known["t"])
    assert torch.allclose(mix(0.25, 2.0)[name], expected, atol=1e-6)


def test_without_guidance_there_is_no_branch_to_take(models: dict[str, ModelConfig]) -> None:
    pipeline = load_pipeline(models["positive"])
    with pytest.raises(ValueError, match="guidance above 1"):
        with_negative(pipeline, pipeline.unet, 1.0)
    with pytest.raises(ValidationError, match=r"sampler\.guidance above 1"):
        EvaluateConfig(rewards=("a",), negative={"weights_from": "x"}, sampler=SamplerConfig(guidance=1.0))
