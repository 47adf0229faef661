from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prefopt.data.storage import Storage
from prefopt.data.visits import visit_noise
from prefopt.diffusion.schedule import NoiseSchedule
from prefopt.distributed.training.batches import Denoising, MicroBatch, StepReader
from prefopt.distributed.training.job import PLAN, TrainingJob
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.errors import InputError
from prefopt.models.loading import load_pipeline
from prefopt.stages.train import prepare
from tests.kit.models import LATENT_SHAPE, tiny_pipeline, tiny_sdxl_pipeline, tiny_unet
from tests.kit.training import training_config, training_context
from tests.kit.weights import lora_directory

SCHEDULE = NoiseSchedule.scaled_linear()
HOW = Denoising(SCHEDULE, "epsilon", torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("batches") / "model")


def _reader(
    root: Path, model: Path, *, rank: int = 0, workers: int = 1, **options: Any
) -> tuple[StepReader, TrainingJob, PromptEmbeddings]:
    config = training_config(model, root / "store", **options)
    job, _ = prepare(training_context(root, config))
    pipeline = load_pipeline(config.model, vae=None)
    texts = job.work.read_table("prompts.parquet")["prompt"].to_pylist()
    prompts = PromptEmbeddings(pipeline, texts, batch=4, cache_mb=1)
    return StepReader(job, prompts, HOW, rank=rank, world_size=workers), job, prompts


def _same(a: MicroBatch, b: MicroBatch) -> bool:
    return (
        torch.equal(a.xt, b.xt) and torch.equal(a.conditioning.states, b.conditioning.states) and torch.equal(a.t, b.t)
    )


def test_winner_first_and_both_share_noise(tmp_path: Path, model: Path) -> None:
    reader, job, _ = _reader(tmp_path, model)
    rows = job.work.read_table(PLAN).slice(0, 4).to_pylist()
    batch = reader.get(0, 6)[0]
    assert batch.pairs == 4
    assert batch.xt.shape == (8, *LATENT_SHAPE)
    ab = SCHEDULE.levels(batch.t).float().reshape(-1, 1, 1, 1)
    x0 = (batch.xt - (1 - ab).sqrt() * batch.target) / ab.sqrt()
    stored = {key: value for key, value in _stored_latents(job).items()}
    for index, row in enumerate(rows):
        noise = torch.from_numpy(visit_noise(row["visit_id"], LATENT_SHAPE))
        assert torch.equal(batch.target[index], noise)
        assert torch.equal(batch.target[index + 4], noise)
        winner, loser = (0, 1) if row["label"] > 0.5 else (1, 0)
        for place, image in ((index, winner), (index + 4, loser)):
            expected = torch.from_numpy(stored[row[f"latent_key_{image}"]])
            assert torch.allclose(x0[place], expected, atol=2e-4 / float(ab[place].sqrt()))
            assert int(batch.t[place]) == row[f"t_{image}"]


def _stored_latents(job: TrainingJob) -> dict[str, np.ndarray]:
    found = {}
    for file in job.store.files("x0"):
        if file.endswith(".parquet"):
            for row in job.store.read_table(file).to_pylist():
                found[row["key"]] = np.frombuffer(row["x0"], dtype=np.float32).reshape(LATENT_SHAPE)
    return found


def test_inverted_latents_come_from_the_store(tmp_path: Path, model: Path) -> None:
    reader, job, _ = _reader(tmp_path, model, inversion="renoise")
    batch = reader.get(0, 6)[0]
    row = job.work.read_table(PLAN).slice(0, 1).to_pylist()[0]
    winner = 0 if row["label"] > 0.5 else 1
    file = next(f for f in job.store.files("inverted") if f.endswith(".parquet"))
    inverted = {r["key"]: r for r in job.store.read_table(file).to_pylist()}[row["inverted_key"]]
    xt = np.frombuffer(inverted[f"xt_{winner}"], dtype=np.float32).reshape(LATENT_SHAPE)
    assert torch.equal(batch.xt[0], torch.from_numpy(xt.copy()))
    ab = float(SCHEDULE.alphas_cumprod[row["t_0"]])
    x0 = _stored_latents(job)[row[f"latent_key_{winner}"]]
    tau = (xt - ab**0.5 * x0) / (1 - ab) ** 0.5
    assert np.allclose(batch.target[0].numpy(), tau, rtol=1e-4, atol=1e-5)


def test_the_target_may_be_the_velocity(tmp_path: Path, model: Path) -> None:
    noise, job, prompts = _reader(tmp_path, model)
    velocity = StepReader(job, prompts, replace(HOW, prediction_type="v_prediction"), rank=0, world_size=1)
    epsilon, v = noise.get(0, 6)[0], velocity.get(0, 6)[0]
    assert torch.equal(epsilon.xt, v.xt)
    ab = SCHEDULE.levels(epsilon.t).float().reshape(-1, 1, 1, 1)
    x0 = (epsilon.xt - (1 - ab).sqrt() * epsilon.target) / ab.sqrt()
    assert torch.allclose(v.target, ab.sqrt() * epsilon.target - (1 - ab).sqrt() * x0, atol=2e-2)


def test_dropped_prompts_get_the_empty_prompts_embedding(tmp_path: Path, model: Path) -> None:
    reader, job, prompts = _reader(tmp_path, model)
    rows = job.work.read_table(PLAN).to_pylist()
    assert {row["drop_prompt"] for row in rows} == {True, False}
    given = torch.cat([b.conditioning.states[:4] for step in range(6) for b in reader.get(step, 6)])
    for embedding, row in zip(given, rows, strict=True):
        assert torch.equal(embedding, prompts.get([row["prompt"]], [row["drop_prompt"]]).states[0])
    assert torch.equal(prompts.get([0], [True]).states, prompts.get([3], [True]).states)


def test_micro_batches_are_the_same_for_every_worker_count(tmp_path: Path, model: Path) -> None:
    whole, job, prompts = _reader(tmp_path, model)
    halves = [StepReader(job, prompts, HOW, rank=rank, world_size=2) for rank in (0, 1)]
    for step in (0, 1, 5):
        both = whole.get(step, 6)
        for rank, half in enumerate(halves):
            mine = half.get(step, 6)
            assert len(mine) == 1
            assert _same(mine[0], both[rank])


def test_reading_ahead_does_not_change_what_is_read(tmp_path: Path, model: Path) -> None:
    reader, job, prompts = _reader(tmp_path, model)
    in_order = [reader.get(step, 6)[0] for step in range(6)]
    fresh = StepReader(job, prompts, HOW, rank=0, world_size=1)
    assert all(_same(fresh.get(step, 6)[0], in_order[step]) for step in (4, 0, 1))


BUCKETS = [[32, 32], [40, 24], [24, 48]]
"""For the kit's square, tall and wide pairs."""


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl_pipeline(tmp_path_factory.mktemp("batches") / "sdxl")


def test_a_micro_batch_is_of_one_bucket_for_every_worker_count(tmp_path: Path, model: Path) -> None:
    whole, job, prompts = _reader(tmp_path, model, score={"buckets": BUCKETS}, inversion="renoise")
    halves = [StepReader(job, prompts, HOW, rank=rank, world_size=2) for rank in (0, 1)]
    shapes, mixed = set(), 0
    for step in range(6):
        both = whole.get(step, 6)
        targets = job.work.read_table(PLAN)["target"].to_pylist()[8 * step : 8 * step + 8]
        for rank, batch in enumerate(both):
            (height, width), *others = targets[4 * rank : 4 * rank + 4]
            assert others == [[height, width]] * 3
            assert batch.xt.shape == batch.target.shape == (8, 4, height // 4, width // 4)
            assert _same(halves[rank].get(step, 6)[0], batch)
        shapes |= {batch.xt.shape for batch in both}
        mixed += both[0].xt.shape != both[1].xt.shape
    assert len(shapes) == 3
    assert mixed, "a step may hold micro-batches of two buckets"


@pytest.mark.parametrize("told", ["image", "target"])
def test_winner_and_loser_are_told_their_own_sizes(tmp_path: Path, sdxl: Path, told: str) -> None:
    score = {"buckets": BUCKETS, "size_conditioning": told}
    reader, job, _ = _reader(tmp_path, sdxl, score=score)
    rows = job.work.read_table(PLAN).to_pylist()
    seen = torch.cat([b.conditioning.time_ids for step in range(6) for b in reader.get(step, 6)])
    for number, row in enumerate(rows):
        batch, place = divmod(number, 4)
        winner = 0 if row["label"] > 0.5 else 1
        for side, image in enumerate((winner, 1 - winner)):
            own = [*row[f"original_{image}"], *row[f"crop_{image}"], *row["target"]]
            expected = own if told == "image" else [*row["target"], 0, 0, *row["target"]]
            assert seen[8 * batch + 4 * side + place].tolist() == expected
    assert {tuple(row["crop_0"]) for row in rows} > {(0, 0)}


@pytest.mark.parametrize("inversion", ["none", "renoise"])
def test_float16_latents_are_used_in_float32(tmp_path: Path, model: Path, inversion: str) -> None:
    readers = [
        _reader(tmp_path / dtype, model, inversion=inversion, score={"latent_dtype": dtype})
        for dtype in ("float32", "float16")
    ]
    (wide, _), (narrow, _) = (reader.get(0, 6) for reader, _, _ in readers)
    assert wide.xt.dtype == wide.target.dtype == narrow.xt.dtype == narrow.target.dtype == torch.float32
    assert not torch.equal(wide.xt, narrow.xt)
    assert torch.allclose(wide.xt, narrow.xt, rtol=2**-9, atol=2**-9)
    if inversion == "none":
        assert torch.equal(wide.target, narrow.target)


def test_a_missing_latent_is_refused(tmp_path: Path, model: Path) -> None:
    _, job, prompts = _reader(tmp_path, model)
    elsewhere = replace(job, store=Storage(str(tmp_path / "empty")))
    with pytest.raises(InputError, match="run the score stage"):
        StepReader(elsewhere, prompts, HOW, rank=0, world_size=1).get(0, 6)


def test_visits_that_another_reference_inverted_are_refused(tmp_path: Path, model: Path) -> None:
    _, job, prompts = _reader(tmp_path, model, inversion="renoise")
    lora = lora_directory(tmp_path / "lora", tiny_unet())
    train = job.config.train.model_copy(update={"reference_from": str(lora)})
    stale = replace(job, config=job.config.model_copy(update={"train": train}))
    with pytest.raises(InputError, match=r"inverted/.* lacks 4 of 4 rows.*run the score stage"):
        StepReader(stale, prompts, HOW, rank=0, world_size=1).get(0, 6)
