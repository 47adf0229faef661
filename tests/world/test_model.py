import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from prefopt.models.identity import EMBEDDED_CHECKPOINT
from prefopt.world.model import build_pipeline
from prefopt.world.rewards import left_world
from prefopt.world.scenes import SHAPES, all_prompts, render, sample_scene
from prefopt.world.vision import measure, parse_prompt


@pytest.fixture(scope="module")
def shipped() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(EMBEDDED_CHECKPOINT, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: StableDiffusionPipeline, prompts: list[str], steps: int = 20) -> NDArray[np.uint8]:
    generators = [torch.Generator().manual_seed(index) for index in range(len(prompts))]
    images = pipeline(
        prompts, num_inference_steps=steps, guidance_scale=3.0, generator=generators, output_type="np"
    ).images
    return np.asarray((images * 255).round(), dtype=np.uint8)


def test_captions_are_one_token_per_word_and_read_back(shipped: StableDiffusionPipeline) -> None:
    tokenizer = shipped.tokenizer
    for prompt in all_prompts():
        ids = tokenizer(prompt.text).input_ids
        assert len(ids) == len(prompt.text.split()) + 2 <= tokenizer.model_max_length
        assert tokenizer.unk_token_id not in ids[1:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == prompt.text


def test_any_text_can_be_tokenised(shipped: StableDiffusionPipeline) -> None:
    tokenizer = shipped.tokenizer
    ids = tokenizer("Zebra, 7%!").input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert len(tokenizer("word " * 100, truncation=True).input_ids) == tokenizer.model_max_length


def test_the_built_tokenizer_equals_the_shipped_one(shipped: StableDiffusionPipeline) -> None:
    built = build_pipeline(0).tokenizer
    for prompt in all_prompts()[::17]:
        assert built(prompt.text).input_ids == shipped.tokenizer(prompt.text).input_ids


def test_building_follows_the_seed_and_leaves_global_randomness_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second, other = build_pipeline(0), build_pipeline(0), build_pipeline(1)
    assert torch.equal(before, torch.get_rng_state())
    weight = "conv_in.weight"
    assert torch.equal(first.unet.state_dict()[weight], second.unet.state_dict()[weight])
    assert not torch.equal(first.unet.state_dict()[weight], other.unet.state_dict()[weight])


def test_the_schedule_is_that_of_sd15(shipped: StableDiffusionPipeline) -> None:
    config = shipped.scheduler.config
    assert isinstance(shipped.scheduler, DDIMScheduler)
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert (config.prediction_type, config.steps_offset) == ("epsilon", 1)
    assert not config.clip_sample
    assert not config.set_alpha_to_one


def test_the_time_embedding_gets_a_gradient(shipped: StableDiffusionPipeline) -> None:
    unet = shipped.unet
    noisy, text = torch.randn(2, 4, 8, 8), torch.randn(2, 16, 64)
    unet.zero_grad()
    unet(noisy, torch.tensor([10, 900]), text).sample.square().mean().backward()
    assert unet.time_embedding.linear_1.weight.grad.abs().max() > 0
    unet.zero_grad()


def test_shipped_files_are_safetensors_of_bounded_size(shipped: StableDiffusionPipeline) -> None:
    files = [path for path in EMBEDDED_CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8e6
    assert max(path.stat().st_size for path in files) < 5e6
    assert {path.suffix for path in files} <= {".json", ".txt", ".safetensors"}
    for module in (shipped.unet, shipped.vae, shipped.text_encoder):
        assert {weight.dtype for weight in module.parameters()} == {torch.float32}


@torch.no_grad()
def test_the_vae_keeps_pictures_and_gives_unit_latents(shipped: StableDiffusionPipeline) -> None:
    rng = np.random.default_rng(0)
    images = np.stack([render(sample_scene(rng)) for _ in range(64)])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = shipped.vae.encode(x).latent_dist.mode()
    decoded = shipped.vae.decode(latents).sample.clamp(-1, 1)
    assert latents.shape == (64, 4, 8, 8)
    assert float((latents * shipped.vae.config.scaling_factor).std()) == pytest.approx(1.0, abs=0.1)
    assert float((decoded - x).abs().mean()) / 2 < 0.05


def test_samples_are_mostly_scenes_of_the_world_that_follow_the_prompt(shipped: StableDiffusionPipeline) -> None:
    prompts = [prompt.text for prompt in all_prompts()[::8]]
    images = sample(shipped, prompts)
    seen = measure(images)
    asked = [parse_prompt(prompt) for prompt in prompts]
    right = np.mean([SHAPES[k] == want.shape for k, want in zip(seen.shape, asked, strict=True)])
    assert images.shape == (60, 32, 32, 3)
    assert right > 0.5
    assert np.median(left_world(seen)) < 1.0


def test_sampling_follows_the_generators(shipped: StableDiffusionPipeline) -> None:
    prompts = ["a red circle", "we see a blue cross"]
    assert np.array_equal(sample(shipped, prompts, 3), sample(shipped, prompts, 3))
