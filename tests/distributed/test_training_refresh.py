"""Inverted visits while the policy moves: how stale they are, and visits inverted again."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionPipeline

from prefopt.config import RunConfig
from prefopt.data.visits import VisitBatch
from prefopt.distributed.inversions import VisitInverter
from prefopt.distributed.stores import VisitReader, inverted_stores
from prefopt.distributed.training.job import PLAN, PROMPTS
from prefopt.errors import ConfigError
from prefopt.models.families import predict
from prefopt.models.loading import load_pipeline, noise_schedule
from prefopt.stages.base import StageContext
from prefopt.stages.train import prepare
from tests.distributed.test_training_runs import digests, interrupt, steps
from tests.kit.models import SIZE, conditioning_of, tiny_pipeline
from tests.kit.training import training_config, training_context, with_workers
from tests.kit.workers import WorkerGroups

SHARDED = {"stage3_param_persistence_threshold": 0}
ALWAYS = {"every": 2, "visits": 5, "above": 0.0}
MEASURED = {"every": 2, "visits": 5}


class Lab:
    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self.model = tiny_pipeline(root / "model")
        self._done: dict[str, StageContext] = {}

    def config(self, refresh: dict[str, Any] | None, **train: Any) -> RunConfig:
        train = {"optimizer": {"lr": 1e-4}, "objective": {"name": "smpo", "beta": 2000, "gamma": 3}, **train}
        return training_config(self.model, self.root / "store", inversion="renoise", refresh=refresh, **train)

    def train(self, context: StageContext) -> StageContext:
        train = context.config.train
        group = self._workers.get(train.workers, train.zero_stage)
        result = group.run_stage(context, **(SHARDED if train.zero == 3 else {}))
        (self.root / "results").mkdir(exist_ok=True)
        Path(context.output.path("files.json")).write_text(json.dumps(digests(context, result)))
        return context

    def run(self, refresh: dict[str, Any] | None, **train: Any) -> StageContext:
        """A run, done once."""
        config = self.config(refresh, **train)
        name = config.model_dump_json()
        if name not in self._done:
            self._done[name] = self.train(training_context(self.root / f"run-{len(self._done)}", config))
        return self._done[name]


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("refresh"), worker_groups)


def files(context: StageContext) -> dict[str, str]:
    found: dict[str, str] = json.loads(context.output.read_bytes("files.json"))
    return found


def staleness(context: StageContext) -> list[float | None]:
    return [line.get("staleness") for line in steps(context)]


def policy_after(lab: Lab, count: int, **train: Any) -> torch.nn.Module:
    """The policy of a run of so many steps, as plain diffusers loads it."""
    context = lab.run(None, steps=count, **train)
    pipeline = StableDiffusionPipeline.from_pretrained(str(lab.model))
    unet: torch.nn.Module = type(pipeline.unet).from_pretrained(context.output.path("model/unet")).eval()
    return unet


@torch.no_grad()
def inverted_by_hand(context: StageContext, unet: torch.nn.Module, first: int, count: int) -> tuple[VisitBatch, Any]:
    """Some visits of a plan as the score stage stored them, and x_t [2, B, C, H, W] from another UNet."""
    job, _ = prepare(replace(context, output=context.output.child("again")))
    rows = pq.read_table(job.work.open_input(PLAN)).slice(first, count)
    texts = job.work.read_table(PROMPTS)["prompt"].to_pylist()
    reader = VisitReader(context.store, context.config)
    reader.refresh()
    visits = reader.read(rows)
    pipeline = load_pipeline(context.config.model, vae=None, unet=None)
    prompts = ["" if row["drop_prompt"] else texts[row["prompt"]] for row in rows.to_pylist()]
    told = conditioning_of(pipeline, prompts).repeat(2)
    inverter = VisitInverter(context.config, pipeline, torch.device("cpu"))
    return visits, inverter(visits, lambda x, t: predict(unet, x, t, told))


def test_the_reference_itself_makes_nothing_stale(lab: Lab) -> None:
    first, *rest = staleness(lab.run(MEASURED))
    assert first == pytest.approx(0.0, abs=1e-5)
    assert rest[0] is rest[2] is rest[4] is None
    assert rest[1] is not None
    assert rest[3] is not None
    assert rest[3] > rest[1] > 1e-3


def test_staleness_is_the_change_of_the_target_noise(lab: Lab) -> None:
    context = lab.run(MEASURED)
    visits, now = inverted_by_hand(context, policy_after(lab, 2), 2 * 8, 5)
    changes = []
    for side, (before, t) in enumerate([(visits.xt_0, visits.t_0), (visits.xt_1, visits.t_1)]):
        assert before is not None
        for visit in range(5):
            ab = float(noise_schedule(load_pipeline(context.config.model, vae=None)).alphas_cumprod[t[visit]])
            changes.append(np.square(now[side, visit] - before[visit]).mean() / (1.0 - ab))
    assert staleness(context)[2] == pytest.approx(math.sqrt(float(np.mean(changes))), rel=1e-3)


def test_measuring_alone_changes_nothing(lab: Lab) -> None:
    plain, measured = lab.run(None), lab.run(MEASURED)
    assert [line["loss"] for line in steps(measured)] == [line["loss"] for line in steps(plain)]
    model = "model/unet/diffusion_pytorch_model.safetensors"
    assert files(measured)[model] == files(plain)[model]
    assert [line.get("refreshed") for line in steps(measured)] == [False, None] * 3


def test_only_what_is_stale_enough_is_refreshed(lab: Lab) -> None:
    third, fifth = (staleness(lab.run(MEASURED))[step] for step in (2, 4))
    assert third is not None
    assert fifth is not None
    context = lab.run({**MEASURED, "above": (third + fifth) / 2})
    assert [line.get("refreshed") for line in steps(context)] == [False, None, False, None, True, None]
    losses, plain = ([line["loss"] for line in steps(run)] for run in (context, lab.run(None)))
    assert losses[:4] == plain[:4]
    assert losses[4] != plain[4]


def test_the_policy_trains_on_what_it_inverted(lab: Lab) -> None:
    """The store's new family holds the visits of the interval as the policy of then inverts them, and the losses are
    those of a run whose store held these from the start."""
    context = lab.run({**ALWAYS, "every": 3})
    families = {path.split("/")[1] for path in context.store.files("inverted")}
    described = [json.loads(context.store.read_bytes(f"inverted/{name}/family.json")) for name in families]
    by_policy = [family for family in described if "policy" in family]
    assert by_policy
    _, now = inverted_by_hand(context, policy_after(lab, 3), 3 * 8, 8)
    found = []
    for family in by_policy:
        models = {name: family[name] for name in ("model", "policy")}
        store = inverted_stores(context.store, context.config, models)[SIZE]
        store.refresh()
        rows = read_plan(context).slice(3 * 8, 8)
        if not store.missing(rows["inverted_key"].to_pylist()):
            reader = VisitReader(context.store, context.config, models)
            reader.refresh()
            read = reader.read(rows)
            assert read.xt_0 is not None
            assert read.xt_1 is not None
            found.append(np.stack([read.xt_0, read.xt_1]))
    assert any(np.allclose(xt, now, atol=1e-5) for xt in found)
    assert steps(context)[2]["loss"] == pytest.approx(steps(lab.run(None))[2]["loss"], abs=1e-4)
    assert abs(steps(context)[3]["loss"] - steps(lab.run(None))[3]["loss"]) > 1e-4


def read_plan(context: StageContext) -> pa.Table:
    job, _ = prepare(replace(context, output=context.output.child("plan")))
    return pq.read_table(job.work.open_input(PLAN))


@pytest.mark.parametrize("reference", ["live", "cached"])
def test_one_and_two_workers_write_the_same_bytes(lab: Lab, reference: str) -> None:
    one, two = (files(lab.run(ALWAYS, reference=reference, workers=workers)) for workers in (1, 2))
    assert one == two


@pytest.mark.parametrize("every", [2, 3])
def test_an_interrupted_run_goes_on_alike(lab: Lab, tmp_path: Path, every: int) -> None:
    """Interrupted after 3 steps: amid an interval, and at the end of one."""
    whole = lab.run({**ALWAYS, "every": every})
    again = lab.train(interrupt(whole, tmp_path / "again"))
    assert files(again) == files(whole)


def test_cached_reference_errors_follow(lab: Lab) -> None:
    live, cached = (steps(lab.run(ALWAYS, reference=reference)) for reference in ("live", "cached"))
    assert [line["refreshed"] for line in cached[::2]] == [True] * 3
    assert [line["loss"] for line in cached] == pytest.approx([line["loss"] for line in live], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero", "method"), [(1, "full"), (2, "full"), (3, "lora"), pytest.param(3, "full", marks=pytest.mark.matrix)]
)
def test_every_stage_refreshes_alike(lab: Lab, zero: int, method: str) -> None:
    plain, sharded = (
        steps(lab.run(ALWAYS, zero=stage, method=method, workers=2, reference="cached")) for stage in (0, zero)
    )
    for figure in ("loss", "staleness"):
        expected = [line[figure] for line in plain if figure in line]
        assert [line[figure] for line in sharded if figure in line] == pytest.approx(expected, abs=1e-4)


def test_a_lora_run_refreshes(lab: Lab) -> None:
    context = lab.run(ALWAYS, method="lora", optimizer={"lr": 1e-2})
    found = staleness(context)
    assert found[0] == pytest.approx(0.0, abs=1e-5)
    assert found[2] is not None
    assert found[2] > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inversion": "none"}, "train.refresh needs score.visits.inversion renoise"),
        ({"zero": 3, "grid": "reference"}, "needs score.visits.grid exact"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    options = {"inversion": "renoise", **options}
    with pytest.raises(ConfigError, match=message):
        training_config(tmp_path, tmp_path / "store", refresh=MEASURED, **options)


def test_two_workers_at_another_number_go_on(lab: Lab, tmp_path: Path) -> None:
    whole = lab.run(ALWAYS, workers=2)
    again = interrupt(whole, tmp_path / "again")
    again = lab.train(replace(again, config=with_workers(again.config, 1)))
    assert [line["loss"] for line in steps(again)] == pytest.approx([line["loss"] for line in steps(whole)], abs=1e-4)
