"""SD1.5 and SDXL in LoRA and full mode at every ZeRO stage, on two workers: losses, policies, written models."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from prefopt.distributed.training.batches import MicroBatch
from prefopt.models.families import predict
from prefopt.stages.base import StageContext
from tests.kit.models import TINY
from tests.kit.policies import run_stage_and_predict
from tests.kit.training import read_steps, training_config, training_context
from tests.kit.workers import WorkerGroups

SHARDED = {"stage3_param_persistence_threshold": 0}
OBJECTIVE = {"name": "dpo", "beta": 200}
"""A random model's errors are near 1, and float32 rounds them by 1e-7: this beta keeps that out of the loss."""
RATES = {"full": 1e-5, "lora": 1e-3}


@dataclass(frozen=True)
class Trained:
    """A run that has ended, and what its models predict on `batch`."""

    context: StageContext
    policy: torch.Tensor
    reference: torch.Tensor
    batch: MicroBatch

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in read_steps(Path(self.context.output.path("")))]


class Lab:
    """Runs by family, method and stage, each done once."""

    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self.models = {family: write(root / family) for family, write in TINY.items()}
        self._done: dict[tuple[str, str, int], Trained] = {}

    def run(self, family: str, method: str, zero: int) -> Trained:
        key = (family, method, zero)
        if key not in self._done:
            place = self.root / "-".join(map(str, key))
            options: dict[str, Any] = {"optimizer": {"lr": RATES[method]}, "objective": OBJECTIVE, "steps": 4}
            store = self.root / f"store-{family}"
            config = training_config(self.models[family], store, method=method, zero=zero, workers=2, **options)
            context = training_context(place, config)
            group = self._workers.get(2, zero)
            seen, batch = run_stage_and_predict(group, context, **(SHARDED if zero == 3 else {}))
            self._done[key] = Trained(context, seen["policy"], seen["reference"], batch)
        return self._done[key]

    @torch.no_grad()
    def written(self, family: str, method: str, run: Trained) -> torch.Tensor:
        """What the written model predicts in plain diffusers."""
        model = run.context.output.path("model")
        pipeline = DiffusionPipeline.from_pretrained(str(self.models[family]) if method == "lora" else model)
        if method == "lora":
            pipeline.load_lora_weights(model)
        return predict(pipeline.unet.eval(), run.batch.xt, run.batch.t, run.batch.conditioning)


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("families"), worker_groups)


def cases() -> list[Any]:
    """ZeRO 0 in every test run, a diagonal of ZeRO 3 in the slow ones, the rest in the matrix."""
    slow, rest = [pytest.mark.slow], [pytest.mark.slow, pytest.mark.matrix]
    found = []
    for family, method, zero in itertools.product(TINY, RATES, range(4)):
        diagonal = zero == 3 and (family, method) in (("sd15", "full"), ("sdxl", "lora"))
        found.append(pytest.param(family, method, zero, marks=[] if zero == 0 else slow if diagonal else rest))
    return found


@pytest.mark.parametrize(("family", "method", "zero"), cases())
def test_a_family_trains_in_a_mode_at_a_stage(lab: Lab, family: str, method: str, zero: int) -> None:
    run, plain = lab.run(family, method, zero), lab.run(family, method, 0)
    assert run.losses == pytest.approx(plain.losses, rel=0, abs=2e-5)
    assert (run.batch.conditioning.added is None) == (family == "sd15")
    assert float((run.policy - run.reference).abs().max()) > 1e-3
    written = lab.written(family, method, run)
    assert torch.allclose(written, run.policy, rtol=0, atol=1e-5)
    assert not torch.allclose(written, run.reference, rtol=0, atol=1e-4)
