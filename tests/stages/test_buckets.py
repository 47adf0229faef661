"""Images of several shapes, through score and two steps of training."""

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.framing import Framing
from prefopt.data.tables import read_tables
from prefopt.distributed.stores import latent_stores
from prefopt.evaluation.accuracy import HeldoutGaps, heldout_pairs
from prefopt.models.loading import encode_images, load_pipeline, load_vae
from prefopt.stages import train
from prefopt.stages.base import StageContext
from prefopt.stages.chain import Chain
from tests.kit.data import judgement, quiet, small_config, write_parquet
from tests.kit.models import RESOLUTION, TINY
from tests.kit.training import fresh_output, read_steps, with_workers
from tests.kit.workers import WorkerGroups

SQUARE, TALL = Size(RESOLUTION, RESOLUTION), Size(40, 24)
SHAPES = ((Size(50, 50), Size(32, 32)), (Size(80, 40), Size(60, 40)), (Size(32, 40), Size(64, 40)))
"""Pairs in turn: square, tall, and one whose second image alone is tall."""


def picture(number: int, size: Size) -> bytes:
    """Noise, so that each place and each side of an image can be told from the others."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def config_of(root: Path, family: str) -> RunConfig:
    sizes = [SHAPES[n % 3] for n in range(36)]
    rows = [
        judgement(f"prompt {n}", picture(2 * n, first), picture(2 * n + 1, second), float(n % 2), "someone")
        for n, (first, second) in enumerate(sizes)
    ]
    write_parquet(root / "data" / "pairs.parquet", rows)
    visits = {"inversion": "renoise", "steps": 2, "batch": 4, "flip": 0.5, "drop_prompt": 0.2}
    return small_config(
        root,
        [{"kind": "pickapic", "path": str(root / "data")}],
        ingest={"split": {"validation": 0.1, "test": 0.4}},
        model={"path": str(TINY[family](root / "model"))},
        score={"buckets": [SQUARE, TALL], "visits": visits},
        train={"method": "full", "global_batch": 8, "micro_batch": 4, "reference": "cached", "optimizer": {"lr": 1e-3}},
        cluster={"threads": 1},
    )


@pytest.mark.parametrize("family", list(TINY))
def test_two_buckets_train(tmp_path: Path, family: str, worker_groups: WorkerGroups) -> None:
    config = config_of(tmp_path, family)
    chain = Chain(config, str(tmp_path / "run"), start_engine=lambda: None, progress=quiet)
    chain.run(("ingest", "inject", "score"))
    context = chain.context("train")
    _visits_are_of_their_images(context)
    _latents_are_of_their_cuts(context)
    _held_out_latents_are_there(chain)
    losses = []
    for count, run in {1: train.run, 2: worker_groups.get(2).run_stage}.items():
        run(fresh_output(replace(context, config=with_workers(config, count)), tmp_path / f"train-{count}"))
        losses.append([line["loss"] for line in read_steps(tmp_path / f"train-{count}")])
    assert losses[0] == losses[1]
    assert all(map(math.isfinite, losses[0]))
    assert losses[0][0] != losses[0][1]


def _visits_are_of_their_images(context: StageContext) -> None:
    ingest, score = context.parents["ingest"], context.parents["score"]
    images = {row["image_id"]: [row["height"], row["width"]] for row in read_tables(ingest, "images-").to_pylist()}
    pairs = {row["pair_id"]: row for row in read_tables(ingest, "pairs-").to_pylist()}
    visits = read_tables(score, "visits-").to_pylist()
    for row in visits:
        for side in (0, 1):
            assert row[f"original_{side}"] == images[pairs[row["pair_id"]][f"image_{side}"]]
    buckets = [{tuple(row["target"]) for row in visits[start : start + 4]} for start in range(0, 16, 4)]
    assert sorted(map(tuple, set.union(*buckets))) == [SQUARE, TALL]
    assert [len(of_micro_batch) for of_micro_batch in buckets] == [1] * 4
    told = score.manifest.summary
    assert told[f"visits {SQUARE}"] + told[f"visits {TALL}"] == told["visits"] == 16  # type: ignore[operator]
    assert told["visits_waiting"] in range(7)


def _latents_are_of_their_cuts(context: StageContext) -> None:
    """By hand: resize to cover, cut, mirror, encode, round."""
    config, store = context.config, context.store
    images = {row["image_id"]: row for row in read_tables(context.parents["ingest"], "images-").to_pylist()}
    pairs = {row["pair_id"]: row for row in read_tables(context.parents["ingest"], "pairs-").to_pylist()}
    vae, latents = load_vae(config.model), latent_stores(store, config)
    for row in read_tables(context.parents["score"], "visits-").to_pylist()[:8]:
        place = images[pairs[row["pair_id"]]["image_1"]]
        number = 2 * place["row"] + int(place["column"][-1])
        image = Image.open(io.BytesIO(picture(number, Size(*row["original_1"]))))
        height, width = row["target"]
        scale = max(height / image.height, width / image.width)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        if row["flip_1"]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        top, left = row["crop_1"]
        image = image.crop((left, top, left + width, top + height))
        pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0)
        latents[Size(height, width)].refresh()
        found = latents[Size(height, width)].latents([row["latent_key_1"]], "x0")
        expected = encode_images(vae, pixels).numpy()
        assert np.allclose(found, expected, rtol=2**-10, atol=1e-5)
        assert np.array_equal(found, found.astype(np.float16))


def _held_out_latents_are_there(chain: Chain) -> None:
    """The base against itself has no gap on any test pair, whatever its bucket."""
    context = chain.context("train")
    config, ingest = context.config, context.parents["ingest"]
    test = [row for row in read_tables(ingest, "pairs-").to_pylist() if row["split"] == "test"]
    framing = Framing.of(config.score.sizes, read_tables(ingest, "images-"))
    pairs = heldout_pairs(test, read_tables(ingest, "votes-").to_pylist(), framing, "image", most=99, seed=0)
    assert {pair.bucket for pair in pairs} == {SQUARE, TALL}, "the split should hold both"
    latents = latent_stores(context.store, config)
    for store in latents.values():
        store.refresh()
    base = load_pipeline(config.model)
    rows = HeldoutGaps(base, base, latents, batch=4, seed=0).measure(pairs, draws=1)
    assert [row["z"] for row in rows] == [0.0] * len(test)
