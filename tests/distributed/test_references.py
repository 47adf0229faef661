from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from prefopt.config import RunConfig
from prefopt.data.keys import reference_key
from prefopt.data.store import RowStore
from prefopt.data.visits import visit_noise
from prefopt.diffusion import add_noise, denoising_error, target_noise
from prefopt.distributed.references import ReferenceErrors, check_references
from prefopt.distributed.stores import VisitReader, latent_stores, reference_family, reference_stores
from prefopt.distributed.training.job import PROMPTS
from prefopt.errors import GuardError, InputError
from prefopt.models.families import encode_prompts, predict
from prefopt.models.loading import load_pipeline, noise_schedule
from prefopt.stages.base import StageContext
from prefopt.stages.train import prepare
from tests.kit.models import LATENT_SHAPE, SIZE, tiny_pipeline, tiny_sdxl_pipeline
from tests.kit.training import read_steps, training_config, training_context
from tests.kit.workers import WorkerGroup, WorkerGroups

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture
def group(worker_groups: WorkerGroups) -> WorkerGroup:
    return worker_groups.get(1)


def context(model: Path, place: Path, **options: Any) -> StageContext:
    options = {"reference": "cached", "optimizer": {"lr": 1e-4}, **options}
    return training_context(place, training_config(model, place / "store", **options))


def planned(made: StageContext) -> tuple[pa.Table, list[str]]:
    job, plan = prepare(made)
    return plan, job.work.read_table(PROMPTS)["prompt"].to_pylist()


def test_errors_are_those_of_the_base_model_by_hand(model: Path, tmp_path: Path) -> None:
    made = context(model, tmp_path)
    plan, prompts = planned(made)
    row = plan.slice(5, 1).to_pylist()[0]
    pipeline = load_pipeline(made.config.model, vae=None)
    latents = latent_stores(made.store, made.config)[SIZE]
    latents.refresh()
    states = encode_prompts(pipeline, ["" if row["drop_prompt"] else prompts[row["prompt"]]]).states
    noise = torch.from_numpy(visit_noise(row["visit_id"], LATENT_SHAPE))[None]
    for side in (0, 1):
        cell = latents.get([row[f"latent_key_{side}"]], ["x0"])["x0"][0].as_py()
        x0 = torch.from_numpy(np.frombuffer(cell, np.float32).reshape(1, *LATENT_SHAPE).copy())
        t = torch.tensor([row[f"t_{side}"]])
        xt = add_noise(x0, noise, t, noise_schedule(pipeline))
        with torch.no_grad():
            error = denoising_error(pipeline.unet(xt, t, encoder_hidden_states=states).sample, noise)
        assert row[f"reference_{side}"] == pytest.approx(float(error), rel=1e-5)


@pytest.mark.parametrize("inversion", ["none", "renoise"])
def test_buckets_are_measured_apart_and_come_back_in_order(tmp_path: Path, inversion: str) -> None:
    """Of SDXL, by hand: with each image's own time ids."""
    buckets = {"buckets": [[32, 32], [40, 24], [24, 48]]}
    made = context(tiny_sdxl_pipeline(tmp_path / "sdxl"), tmp_path, inversion=inversion, score=buckets)
    plan, prompts = planned(made)
    pipeline = load_pipeline(made.config.model, vae=None)
    reader = VisitReader(made.store, made.config)
    reader.refresh()
    for number in (0, 4, 8, 21):
        one = plan.slice(number, 1)
        row, read = one.to_pylist()[0], reader.read(one)
        told = encode_prompts(pipeline, ["" if row["drop_prompt"] else prompts[row["prompt"]]])
        for side, x0 in enumerate((read.x0_0, read.x0_1)):
            t, latent = torch.tensor([row[f"t_{side}"]]), torch.from_numpy(x0)
            stored = (read.xt_0, read.xt_1)[side]
            if stored is None:
                noise = torch.from_numpy(read.noise())
                xt = add_noise(latent, noise, t, noise_schedule(pipeline))
            else:
                xt = torch.from_numpy(stored)
                noise = target_noise(latent, xt, t, noise_schedule(pipeline))
            ids = [[*row[f"original_{side}"], *row[f"crop_{side}"], *row["target"]]]
            with torch.no_grad():
                predicted = predict(pipeline.unet, xt, t, told.sized(np.array(ids)))
            assert row[f"reference_{side}"] == pytest.approx(float(denoising_error(predicted, noise)), rel=1e-4)
    assert check_references(made.config, made.store, plan, prompts, CPU) == 0.0


def test_the_same_errors_whatever_else_is_measured(model: Path, tmp_path: Path) -> None:
    made = context(model, tmp_path)
    plan, prompts = planned(made)
    errors = ReferenceErrors(made.config, made.store, CPU)
    whole, part = errors.measure(plan, prompts), errors.measure(plan.slice(7, 3), prompts)
    assert (part == whole[7:10]).all()


def test_a_check_passes_on_true_errors_and_refuses_others(model: Path, tmp_path: Path) -> None:
    made = context(model, tmp_path)
    plan, prompts = planned(made)
    assert check_references(made.config, made.store, plan, prompts, CPU) == 0.0
    wrong = pa.array(plan["reference_0"].to_numpy() + 1e-3)
    moved = plan.set_column(plan.schema.get_field_index("reference_0"), plan.schema.field("reference_0"), wrong)
    with pytest.raises(InputError, match=r"move the logit by 1 \(root mean square"):
        check_references(made.config, made.store, moved, prompts, CPU)


def test_a_run_on_wrong_errors_is_refused_by_every_worker(model: Path, tmp_path: Path, group: WorkerGroup) -> None:
    job, _ = prepare(context(model, tmp_path))
    other = job.config.model.model_copy(update={"path": str(tiny_pipeline(tmp_path / "other", seed=7))})
    answer = group.train(replace(job, config=job.config.model_copy(update={"model": other})))
    assert isinstance(answer["refused"], InputError)
    assert not isinstance(answer["refused"], GuardError)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_cached_and_live_references_train_alike(model: Path, tmp_path: Path, group: WorkerGroup, method: str) -> None:
    curves = []
    for reference in ("live", "cached"):
        made = context(model, tmp_path / reference, reference=reference, method=method)
        group.run_stage(made)
        curves.append([line["loss"] for line in read_steps(Path(made.output.path("")))])
    assert curves[0] != curves[1]
    assert curves[1] == pytest.approx(curves[0], abs=1e-3)


def family(**options: Any) -> dict[str, Any]:
    return reference_family(training_config(Path("world"), Path("store"), **options), SIZE)


def test_everything_that_changes_an_error_has_a_store_of_its_own() -> None:
    base: dict[str, Any] = {"inversion": "none"}
    stores = {
        RowStore.__name__: family(**base),
        "precision": family(**base, precision="bf16"),
        "inversion": family(inversion="renoise"),
    }
    assert len({str(sorted(found.items(), key=str)) for found in stores.values()}) == 3
    assert family(**base, global_batch=16) == family(**base)


def test_the_key_is_the_visit_with_all_that_is_fixed_in_it() -> None:
    visit = {"visit_id": "v", "t_0": 3, "t_1": 3, "flip_0": False, "flip_1": True, "drop_prompt": False}
    changed = [visit | change for change in ({"visit_id": "w"}, {"t_0": 4}, {"flip_1": False}, {"drop_prompt": True})]
    assert len({reference_key(row) for row in [visit, *changed]}) == 5


def test_a_plan_without_errors_is_refused(model: Path, tmp_path: Path) -> None:
    made = context(model, tmp_path, reference="live")
    wanted: RunConfig = made.config.model_copy(
        update={"train": made.config.train.model_copy(update={"reference": "cached"})}
    )
    with pytest.raises(InputError, match="48 of 48 have none"):
        prepare(replace(made, config=wanted))
    assert reference_stores(made.store, wanted)[SIZE].missing(["x"]) == ["x"]
