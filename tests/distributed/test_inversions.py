"""The reference inverts: visits of both families, through whatever `reference_from` names."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import DiffusionPipeline

from prefopt.data.storage import Storage
from prefopt.data.store import unpack_arrays
from prefopt.data.tables import read_tables
from prefopt.data.visits import LATENT_DTYPE
from prefopt.diffusion.inversion import invert
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.stores import inverted_store, latent_store
from prefopt.models.families import encode_prompts, predict
from prefopt.models.loading import load_pipeline, noise_schedule
from tests.kit.models import LATENT_SHAPE, RESOLUTION, TINY
from tests.kit.training import training_config, training_context
from tests.kit.weights import lora_directory


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("family", list(TINY))
@torch.no_grad()
def test_a_visit_is_inverted_by_the_reference(tmp_path: Path, family: str, kind: str) -> None:
    model = TINY[family](tmp_path / "base", prediction_type=kind)
    lora = lora_directory(tmp_path / "lora", DiffusionPipeline.from_pretrained(str(model)).unet)
    config = training_config(model, tmp_path / "filled", inversion="renoise", reference_from=str(lora))
    context = training_context(tmp_path / "run", config)
    store, work = Storage(str(tmp_path / "store")), Storage(str(tmp_path / "work"))
    for name in context.store.files("x0"):
        store.write_bytes(name, context.store.read_bytes(name))
    visits = read_tables(context.parents["score"], "visits-").slice(0, 3)
    prompts = ["a red circle", "a blue square", "a green cross"]
    work.write_table("inversions.parquet", visits.append_column("prompt", pa.array(prompts)))
    InvertVisits(config, store, work)({"start": 0, "count": 3})

    pipeline = DiffusionPipeline.from_pretrained(str(model))
    pipeline.load_lora_weights(str(lora))
    rows = visits.to_pylist()
    texts = ["" if row["drop_prompt"] else text for row, text in zip(rows, prompts, strict=True)]
    told = encode_prompts(load_pipeline(config.model, unet=None), texts, RESOLUTION)
    latents, inverted = latent_store(store, config), inverted_store(store, config)
    for opened in (latents, inverted):
        opened.refresh()
    for side in (0, 1):
        x0 = latents.get([row[f"latent_key_{side}"] for row in rows], ["x0"])["x0"]
        expected = invert(
            lambda x, t: predict(pipeline.unet, x, t, told),
            torch.from_numpy(unpack_arrays(x0, LATENT_SHAPE, LATENT_DTYPE)),
            torch.tensor([row[f"t_{side}"] for row in rows]),
            noise_schedule(pipeline),
            num_steps=config.score.visits.steps,
            renoise_steps=config.score.visits.renoise_steps,
            grid=config.score.visits.grid,
            prediction_type=kind,
        )
        cells = inverted.get([row["inverted_key"] for row in rows], [f"xt_{side}"])[f"xt_{side}"]
        found = unpack_arrays(cells, LATENT_SHAPE, LATENT_DTYPE)
        assert np.allclose(found, expected.numpy(), atol=1e-4)
    elsewhere = inverted_store(store, training_config(model, tmp_path / "filled", inversion="renoise"))
    elsewhere.refresh()
    keys = [row["inverted_key"] for row in rows]
    assert elsewhere.missing(keys) == keys
