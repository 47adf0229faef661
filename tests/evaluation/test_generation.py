import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)

from prefopt.config.evaluate import SamplerConfig
from prefopt.config.root import ModelConfig
from prefopt.config.train import LoraConfig
from prefopt.data.ids import row_normal
from prefopt.errors import ConfigError, GuardError
from prefopt.evaluation.generation import (
    ImageGenerator,
    initial_noise,
    make_scheduler,
    open_png,
    png_bytes,
    with_weights,
)
from prefopt.models.adapters import adapter_parameters, add_adapters, save_adapter
from prefopt.models.loading import load_pipeline
from prefopt.models.sources import base_weights, find_weights
from tests.kit.models import RESOLUTION, TINY

TASKS = [("a red circle", 0), ("a blue square", 0), ("a blue square", 1), ("a green cross", 0), ("a red cross", 0)]


@pytest.fixture(scope="module", params=list(TINY))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family, tmp_path_factory):
    return ModelConfig(path=str(TINY[family](tmp_path_factory.mktemp("base"))))


def generator(model, batch=3, seed=0, **sampler):
    settings = SamplerConfig(**{"steps": 2, "guidance": 3.0, "resolution": RESOLUTION, **sampler})
    return ImageGenerator(load_pipeline(model), settings, batch=batch, seed=seed)


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


def test_initial_noise_belongs_to_seed_prompt_and_sample():
    first = initial_noise((4, 8, 8), 0, "a", 0)
    assert first.dtype == np.float32
    assert np.array_equal(first, initial_noise((4, 8, 8), 0, "a", 0))
    for other in ((1, "a", 0), (0, "b", 0), (0, "a", 1)):
        assert not np.array_equal(first, initial_noise((4, 8, 8), *other))


@pytest.mark.parametrize("scheduler", get_args(SamplerConfig.model_fields["scheduler"].annotation))
def test_an_image_depends_neither_on_its_neighbours_nor_on_its_place_in_the_batch(model, scheduler):
    drawn = generator(model, scheduler=scheduler)
    together = pixels(drawn.images(TASKS))
    assert together.shape == (5, RESOLUTION, RESOLUTION, 3)
    for index, task in enumerate(TASKS):
        assert np.array_equal(together[index], pixels(drawn.images([task]))[0])
    assert np.array_equal(together[::-1], pixels(drawn.images(TASKS[::-1])))


def test_samples_prompts_and_seeds_differ(model):
    images = pixels(generator(model).images(TASKS))
    assert not np.array_equal(images[1], images[2])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], pixels(generator(model, seed=1).images(TASKS[:1]))[0])


def test_schedulers_come_from_the_pipelines_config(model):
    own = load_pipeline(model).scheduler
    made = {name: make_scheduler(name, own) for name in ("ddim", "dpmsolver++", "pndm", "euler")}
    kinds = [DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, EulerDiscreteScheduler]
    assert [type(scheduler) for scheduler in made.values()] == kinds
    assert all(torch.equal(own.betas, scheduler.betas) for scheduler in made.values())
    assert made["dpmsolver++"].config.algorithm_type == "dpmsolver++"
    assert made["pndm"].config.skip_prk_steps
    with pytest.raises(ValueError, match="heun"):
        make_scheduler("heun", own)


def test_a_models_own_scheduler_is_taken_as_it_is_unless_it_draws_noise(model):
    own = load_pipeline(model).scheduler
    assert type(make_scheduler("own", own)) is type(own)
    assert make_scheduler("own", own).config == own.config
    noisy = DPMSolverMultistepScheduler.from_config(own.config, algorithm_type="sde-dpmsolver++")
    for other in (EulerAncestralDiscreteScheduler.from_config(own.config), noisy):
        with pytest.raises(ConfigError, match="noise of its own"):
            make_scheduler("own", other)


def test_schedulers_draw_different_images(model):
    drawn = [pixels(generator(model, scheduler=name, steps=4).images(TASKS[:1])) for name in ("ddim", "pndm", "euler")]
    assert not any(np.array_equal(*two) for two in itertools.combinations(drawn, 2))


@pytest.mark.parametrize("scheduler", ["pndm", "euler"])
def test_a_single_step_is_enough_for_an_image(model, scheduler):
    assert len(generator(model, scheduler=scheduler, steps=1).images(TASKS[:1])) == 1


def test_a_resolution_that_the_vae_cannot_draw_is_refused(model):
    with pytest.raises(ConfigError, match=r"resolution 30 is not a multiple"):
        generator(model, resolution=30)


def compared(base, model, directory):
    """The pipeline with what a directory holds."""
    onto = base_weights(model)
    return with_weights(base, model, find_weights(str(directory), "evaluate.models.kit", [onto]), onto)


def test_a_full_directory_gives_its_unet_and_shares_the_rest(family, model, tmp_path):
    directory = TINY[family](tmp_path / "tuned", seed=5)
    base = load_pipeline(model)
    tuned = compared(base, model, directory)
    expected = UNet2DConditionModel.from_pretrained(str(directory), subfolder="unet").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in tuned.unet.state_dict().items())
    assert tuned.vae is base.vae
    assert tuned.text_encoder is base.text_encoder
    assert not any(parameter.requires_grad for parameter in tuned.unet.parameters())


def test_lora_weights_change_the_tuned_model_and_leave_the_base_alone(model, tmp_path):
    base = load_pipeline(model)
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    trained, config = load_pipeline(model).unet, LoraConfig(rank=2)
    add_adapters(trained, config, ("policy",), seed=0)
    values = {
        key: torch.from_numpy(row_normal(tuple(value.shape), 0, "kit", key))
        for key, value in adapter_parameters(trained, "policy").items()
    }
    save_adapter(tmp_path / "lora", values, config)
    settings = SamplerConfig(steps=2, resolution=RESOLUTION)
    tuned = compared(base, model, tmp_path / "lora")
    first, second = (ImageGenerator(p, settings, batch=2, seed=0).images(TASKS[:2]) for p in (base, tuned))
    assert not np.array_equal(pixels(first), pixels(second))
    assert set(base.unet.state_dict()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in base.unet.state_dict().items())


def test_a_broken_model_is_reported(model):
    drawn = generator(model)
    with torch.no_grad():
        drawn._pipeline.unet.conv_in.weight.fill_(float("nan"))
    with pytest.raises(GuardError, match="not finite"):
        drawn.images(TASKS[:1])


def test_png_is_lossless_and_deterministic(model):
    (image,) = generator(model).images(TASKS[:1])
    assert png_bytes(image) == png_bytes(image.copy())
    assert np.array_equal(np.asarray(open_png(png_bytes(image))), np.asarray(image))
