import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prefopt.config.root import ModelConfig
from prefopt.data.framing import time_ids
from prefopt.errors import InputError
from prefopt.models.families import (
    SD15,
    SDXL,
    Conditioning,
    Pipeline,
    encode_prompts,
    family_of,
    model_family,
    predict,
)
from prefopt.models.loading import load_pipeline
from tests.kit.models import LATENT_SHAPE, RESOLUTION, TINY, TOKENS, WIDTH, WIDTHS, conditioning_of

PROMPTS = ["a red circle", "", "a blue square and a green cross " * 8]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name) / "model") for name, write in TINY.items()}


@pytest.fixture(scope="module", params=list(TINY))
def pipeline(request: pytest.FixtureRequest, places: dict[str, Path]) -> Pipeline:
    return load_pipeline(ModelConfig(path=str(places[request.param])))


def _calls(pipeline: Pipeline, **options: Any) -> list[dict[str, Any]]:
    """What the UNet is given when diffusers itself draws."""
    calls: list[dict[str, Any]] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, args, given: calls.append(given), with_kwargs=True)
    size = {"height": RESOLUTION, "width": RESOLUTION}
    pipeline(PROMPTS, num_inference_steps=1, output_type="latent", **size, **options)
    hook.remove()
    return calls


def test_the_family_is_that_of_the_model_index(places: dict[str, Path]) -> None:
    for name, family in (("sd15", SD15), ("sdxl", SDXL)):
        model = ModelConfig(path=str(places[name]))
        assert model_family(model) is family
        assert family_of(load_pipeline(model, vae=None)) is family


def test_another_family_is_refused_with_the_names_of_the_known(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    for function in (model_family, load_pipeline):
        with pytest.raises(
            InputError, match="is a FluxPipeline: only StableDiffusionPipeline and StableDiffusionXLPipeline"
        ):
            function(ModelConfig(path=str(tmp_path)))


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the model"):
        model_family(ModelConfig(path=str(tmp_path)))


def test_conditioning_is_what_diffusers_gives_its_unet(pipeline: Pipeline) -> None:
    told = conditioning_of(pipeline, PROMPTS)
    (given,) = _calls(pipeline, guidance_scale=1.0)
    assert torch.equal(told.states, given["encoder_hidden_states"])
    if family_of(pipeline) is SDXL:
        assert torch.equal(told.added["text_embeds"], given["added_cond_kwargs"]["text_embeds"])
        assert torch.equal(told.added["time_ids"], given["added_cond_kwargs"]["time_ids"])
    else:
        assert told.added is None
        assert given["added_cond_kwargs"] is None


def test_shapes(pipeline: Pipeline) -> None:
    told = conditioning_of(pipeline, PROMPTS)
    if family_of(pipeline) is SD15:
        assert told.states.shape == (3, TOKENS, WIDTH)
    else:
        assert told.states.shape == (3, TOKENS, sum(WIDTHS))
        assert told.pooled is not None
        assert told.pooled.shape == (3, WIDTHS[1])
        assert told.time_ids is not None
        assert told.time_ids.tolist() == [[32, 32, 0, 0, 32, 32]] * 3


@torch.no_grad()
def test_sdxl_takes_penultimate_states_of_both_encoders_and_the_seconds_projection(places: dict[str, Path]) -> None:
    pipeline = load_pipeline(ModelConfig(path=str(places["sdxl"])))
    told = conditioning_of(pipeline, PROMPTS)
    states: list[Tensor] = []
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        ids = tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
        output = encoder(ids, output_hidden_states=True)
        states.append(output.hidden_states[1])  # of 0 to 2: two layers
    assert torch.equal(told.states, torch.cat(states, dim=-1))
    assert told.pooled is not None
    assert torch.equal(told.pooled, output.text_embeds)


def test_an_empty_prompt_is_encoded_as_text(pipeline: Pipeline) -> None:
    """diffusers would put zeros for the unconditional half of SDXL's guidance."""
    told = conditioning_of(pipeline, PROMPTS)
    assert float(told.states[1].abs().min(dim=-1).values.max()) > 0
    assert told.pooled is None or float(told.pooled[1].abs().max()) > 0


def test_an_embedding_depends_on_its_batch_size_alone(pipeline: Pipeline) -> None:
    together = conditioning_of(pipeline, PROMPTS)
    turned = conditioning_of(pipeline, PROMPTS[::-1]).select([2, 1, 0])
    for a, b in ((together.states, turned.states), (together.pooled, turned.pooled)):
        assert a is b is None or torch.equal(a, b)


@torch.no_grad()
def test_predict_is_the_unets_own_output(pipeline: Pipeline) -> None:
    told = conditioning_of(pipeline, PROMPTS)
    x = torch.randn(3, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3, 500, 999])
    plain = pipeline.unet(x, t, encoder_hidden_states=told.states, added_cond_kwargs=told.added).sample
    assert torch.equal(predict(pipeline.unet, x, t, told), plain)
    other = predict(pipeline.unet, x, t, conditioning_of(pipeline, PROMPTS[::-1]))
    assert not torch.equal(plain[0], other[0])
    if told.time_ids is not None:
        moved = Conditioning(told.states, told.pooled, told.time_ids * 2)
        assert not torch.equal(predict(pipeline.unet, x, t, moved), plain)


def test_drawing_leaves_no_watermark(places: dict[str, Path]) -> None:
    assert load_pipeline(ModelConfig(path=str(places["sdxl"]))).watermark is None


def _conditioning(rows: int) -> Conditioning:
    numbers = torch.arange(float(rows))
    return Conditioning(numbers.reshape(-1, 1, 1), numbers.reshape(-1, 1) + 10, numbers.reshape(-1, 1) + 20)


def _first(told: Conditioning) -> tuple[list[float], ...]:
    assert told.pooled is not None
    assert told.time_ids is not None
    return told.states[:, 0, 0].tolist(), told.pooled[:, 0].tolist(), told.time_ids[:, 0].tolist()


def test_sizes_are_told_as_diffusers_tells_them(pipeline: Pipeline) -> None:
    """Original height, width, crop top, left, target height, width: the order of its own pipeline."""
    sizes = [((1024, 768), (0, 32), (576, 448)), ((300, 512), (7, 0), (512, 512)), ((32, 32), (0, 0), (32, 32))]
    ids = np.array([time_ids(*size, "image") for size in sizes])
    told = encode_prompts(pipeline, PROMPTS).sized(ids)
    if family_of(pipeline) is SD15:
        assert told.added is None
        return
    width = pipeline.text_encoder_2.config.projection_dim
    expected = [pipeline._get_add_time_ids(*size, torch.float32, width) for size in sizes]
    assert told.added is not None
    assert torch.equal(told.added["time_ids"], torch.cat(expected))


def test_an_image_whose_size_was_not_told_is_refused(places: dict[str, Path]) -> None:
    pipeline = load_pipeline(ModelConfig(path=str(places["sdxl"])))
    told = encode_prompts(pipeline, PROMPTS)
    with pytest.raises(AssertionError, match="sizes"):
        predict(pipeline.unet, torch.zeros(3, *LATENT_SHAPE), torch.tensor([1, 2, 3]), told)


def test_rows_are_repeated_selected_and_joined() -> None:
    told = _conditioning(2)
    assert _first(told.repeat(2)) == ([0, 1, 0, 1], [10, 11, 10, 11], [20, 21, 20, 21])
    assert _first(told.select([1, 1, 0])) == ([1, 1, 0], [11, 11, 10], [21, 21, 20])
    assert _first(told.select(torch.tensor([1]))) == ([1], [11], [21])
    assert _first(Conditioning.cat([told.select([1]), told])) == ([1, 0, 1], [11, 10, 11], [21, 20, 21])
    assert Conditioning(told.states).repeat(2).pooled is None
    assert Conditioning.cat([Conditioning(told.states)] * 2).added is None
    assert told.nbytes == 3 * 2 * 4


def test_embeddings_are_cast_and_time_ids_are_not() -> None:
    """1031 pixels are 1032 in bfloat16."""
    told = Conditioning(torch.ones(1, 1, 1), torch.ones(1, 1), torch.tensor([[1031.0]])).to("cpu", torch.bfloat16)
    assert told.added is not None
    assert (told.states.dtype, told.added["text_embeds"].dtype) == (torch.bfloat16, torch.bfloat16)
    assert told.added["time_ids"].item() == 1031.0
