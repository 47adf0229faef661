"""The reference inverts: visits of both families, through whatever `reference_from` names."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import DiffusionPipeline

from prefopt.data.framing import time_ids
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.diffusion.inversion import invert, level_counts
from prefopt.distributed.inversions import InvertVisits, append_inverted
from prefopt.distributed.stores import inverted_stores, latent_stores
from prefopt.errors import ConfigError, InputError
from prefopt.models.families import encode_prompts, predict
from prefopt.models.loading import load_pipeline, noise_schedule
from tests.kit.models import SIZE, TINY
from tests.kit.training import training_config, training_context
from tests.kit.weights import lora_directory


@pytest.mark.parametrize(("value", "message"), [(np.nan, "is not finite"), (7e4, "which float16 cannot hold")])
def test_an_inversion_that_cannot_be_stored_is_named(tmp_path: Path, value: float, message: str) -> None:
    config = training_config(Path("world"), tmp_path, inversion="renoise", score={"latent_dtype": "float16"})
    store = inverted_stores(Storage(str(tmp_path)), config)[SIZE]
    visits = pa.table({"inverted_key": ["k", "l"], "pair_id": ["first", "second"]})
    xt = np.zeros((2, 3, 12, 8, 8), np.float32)
    xt[0, 2] = value
    append_inverted(store, visits, xt)
    xt[1, 1] = value
    with pytest.raises(InputError, match=f"The latent of image_1 of pair second, inverted, .*{message}"):
        append_inverted(store, visits, xt)


def test_averaging_and_regularisation_have_stores_of_their_own(tmp_path: Path) -> None:
    """And change what is stored; without them the store is that of always."""
    model, visits = TINY["sd15"](tmp_path / "base"), {"renoise_steps": 2}
    gentle = {"rounds": 1, "patch_weight": 0.01, "pair_weight": 0.01}
    ways = {"plain": {}, "average": {"average": [2, 3]}, "regular": {"regularisation": gentle}}
    seen = {}
    for name, more in ways.items():
        config = training_config(model, tmp_path / "store", inversion="renoise", visits=visits | more)
        context = training_context(tmp_path / name, config)
        store = inverted_stores(context.store, config)[SIZE]
        store.refresh()
        keys = read_tables(context.parents["score"], "visits-")["inverted_key"].to_pylist()
        seen[name] = store.latents(keys, "xt_0")
    assert len(list((tmp_path / "store" / "inverted").iterdir())) == 3
    assert np.isfinite(seen["regular"]).all()
    assert np.abs(seen["average"] - seen["plain"]).max() > 1e-3
    assert np.abs(seen["regular"] - seen["plain"]).max() > 1e-3


@pytest.mark.parametrize("average", [[1, 1], [0, 3], [2, 1]])
def test_an_average_that_is_not_there_is_refused(tmp_path: Path, average: list[int]) -> None:
    with pytest.raises(ConfigError, match="average"):
        training_config(tmp_path, tmp_path, visits={"average": average})


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
    told = encode_prompts(load_pipeline(config.model, unet=None), texts)
    latents, inverted = latent_stores(store, config)[SIZE], inverted_stores(store, config)[SIZE]
    for opened in (latents, inverted):
        opened.refresh()
    for side in (0, 1):
        x0 = latents.latents([row[f"latent_key_{side}"] for row in rows], "x0")
        sizes = [time_ids(row[f"original_{side}"], row[f"crop_{side}"], row["target"], "image") for row in rows]
        of_side = told.sized(np.array(sizes))
        expected = invert(
            lambda x, t, told=of_side: predict(pipeline.unet, x, t, told),
            torch.from_numpy(x0),
            torch.tensor([row[f"t_{side}"] for row in rows]),
            noise_schedule(pipeline),
            num_steps=config.score.visits.steps,
            renoise_steps=config.score.visits.renoise_steps,
            grid=config.score.visits.grid,
            prediction_type=kind,
        )
        found = inverted.latents([row["inverted_key"] for row in rows], f"xt_{side}")
        assert np.allclose(found, expected.numpy(), atol=1e-4)
    elsewhere = inverted_stores(store, training_config(model, tmp_path / "filled", inversion="renoise"))[SIZE]
    elsewhere.refresh()
    keys = [row["inverted_key"] for row in rows]
    assert elsewhere.missing(keys) == keys


@torch.no_grad()
def test_visits_of_a_unit_are_inverted_beside_others_that_cost_as_much(tmp_path: Path) -> None:
    """On the published grid: less is computed than in the order of the plan, and every visit gets its own latent."""
    model, levels = TINY["sd15"](tmp_path / "base"), 10
    ways = {"alone": 1, "together": 4}
    calls, seen = {}, {}
    for name, batch in ways.items():
        how = {"steps": levels, "renoise_steps": 0, "batch": batch}
        config = training_config(model, tmp_path / name, inversion="renoise", grid="reference", visits=how)
        context = training_context(tmp_path / f"{name} run", config)
        visits = read_tables(context.parents["score"], "visits-").slice(0, 24)
        store, work = Storage(str(tmp_path / f"{name} again")), Storage(str(tmp_path / "work"))
        for part in context.store.files("x0"):
            store.write_bytes(part, context.store.read_bytes(part))
        work.write_table("inversions.parquet", visits.append_column("prompt", pa.array(["a red circle"] * 24)))
        worker = InvertVisits(config, store, work)
        asked: list[int] = []
        worker._unet.register_forward_hook(lambda unet, given, out, asked=asked: asked.append(len(given[0])))
        worker({"start": 0, "count": 24})
        inverted = inverted_stores(store, config)[SIZE]
        inverted.refresh()
        keys, calls[name] = visits["inverted_key"].to_pylist(), sum(asked) // 2
        seen[name] = [inverted.latents(keys, f"xt_{side}") for side in (0, 1)]
    assert np.allclose(seen["together"], seen["alone"], atol=1e-4)
    counts = level_counts(torch.tensor(visits["t_0"].to_pylist()), levels, 1000, "reference")
    assert calls["alone"] == counts.sum()
    in_order = sum(4 * int(counts[start : start + 4].max()) for start in range(0, 24, 4))
    assert counts.sum() <= calls["together"] < (counts.sum() + in_order) / 2
