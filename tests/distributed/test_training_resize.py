"""A run goes on with another number of workers: the losses are those of a run that was never interrupted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prefopt.config import RunConfig
from prefopt.stages.base import StageContext
from tests.distributed.test_training_runs import interrupt, steps
from tests.kit.models import tiny_pipeline
from tests.kit.training import training_config, training_context, with_workers
from tests.kit.workers import WorkerGroups

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARDED = {"stage3_param_persistence_threshold": 0}
ADAPTIVE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1, "ema": {"slow": 0.9, "fast": 0.2}}}
RATES = {"full": 1e-5, "lora": 1e-3}


class Lab:
    """Warm workers, and runs that are done once."""

    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self.workers = root, workers
        self.model = tiny_pipeline(root / "model")
        self._done: dict[str, StageContext] = {}

    def config(self, workers: int, zero: int, method: str, **train: Any) -> RunConfig:
        train = {"optimizer": {"lr": RATES[method]}, **train}
        return training_config(self.model, self.root / "store", zero=zero, workers=workers, method=method, **train)

    def whole(self, config: RunConfig, options: dict[str, Any]) -> StageContext:
        """An undisturbed run, done once."""
        train = config.train
        name = config.model_dump_json() + str(options)
        if name not in self._done:
            context = training_context(self.root / f"run-{len(self._done)}", config)
            assert isinstance(train.zero, int)
            self.workers.get(train.workers, train.zero).run_stage(context, **options)
            self._done[name] = context
        return self._done[name]


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("resize"), worker_groups)


def resized(
    lab: Lab, place: Path, config: RunConfig, workers: int, options: dict[str, Any]
) -> tuple[StageContext, StageContext]:
    """Contexts of an undisturbed run and of one that was interrupted after 3 of 6 steps and resized."""
    whole = lab.whole(config, options)
    again = replace(interrupt(whole, place / "again"), config=with_workers(config, workers))
    assert isinstance(config.train.zero, int)
    lab.workers.get(workers, config.train.zero).run_stage(again, **options)
    return whole, again


def check_alike(whole: StageContext, again: StageContext, lr: float, loss: float = 1e-4) -> None:
    """Nothing is trained twice, losses agree, and no weight is further away than a step."""
    expected, seen = steps(whole), steps(again)
    assert seen[:3] == expected[:3]
    assert [line["loss"] for line in seen] == pytest.approx([line["loss"] for line in expected], rel=0, abs=loss)
    weights = [weights_of(Path(context.output.path("model"))) for context in (whole, again)]
    moved = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    assert moved < lr


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    """The trained weights of a written model."""
    (file,) = [*model.glob("unet/*.safetensors"), *model.glob("*.safetensors")]
    return load_file(str(file))


def _options(zero: int) -> dict[str, Any]:
    return SHARDED if zero == 3 else {}


@pytest.mark.parametrize(
    ("zero", "workers"),
    [(3, (2, 1)), *(pytest.param(*case, marks=pytest.mark.matrix) for case in ((0, (2, 1)), (0, (1, 2)), (3, (1, 2))))],
)
def test_resized_equals_uninterrupted(lab: Lab, tmp_path: Path, zero: int, workers: tuple[int, int]) -> None:
    """LoRA, with the objective that keeps most beside weights and optimizer: averages and a running scale. Full
    fine-tuning and ZeRO 0 are in test_training_equivalence.py."""
    before, after = workers
    config = lab.config(before, zero, "lora", objective=ADAPTIVE)
    check_alike(*resized(lab, tmp_path, config, after, _options(zero)), lr=RATES["lora"])


@pytest.mark.parametrize(
    ("zero", "train", "workers"),
    [
        pytest.param(3, {}, (2, 1), marks=pytest.mark.matrix),
        pytest.param(1, {"precision": "bf16"}, (2, 1), marks=pytest.mark.matrix),
        (3, {"precision": "bf16"}, (1, 2)),
        (2, {"offload": "optimizer"}, (1, 2)),
    ],
    ids=str,
)
def test_resized_at_other_settings(
    lab: Lab, tmp_path: Path, zero: int, train: dict[str, Any], workers: tuple[int, int]
) -> None:
    """Half precision, the optimizer in host memory, and a ZeRO 3 that keeps small parameters whole."""
    before, after = workers
    config = lab.config(before, zero, "full", objective=ADAPTIVE, **train)
    check_alike(*resized(lab, tmp_path, config, after, {}), lr=RATES["full"])


@pytest.mark.parametrize(
    ("offload", "workers"), [pytest.param("optimizer", (2, 1), marks=pytest.mark.matrix), ("all", (1, 2))]
)
def test_resized_at_zero_3_with_offload(lab: Lab, tmp_path: Path, offload: str, workers: tuple[int, int]) -> None:
    """There the gradient's norm is summed in float32, in another order on two workers: a random model's errors are
    near 1, so that float32 rounds their gaps by 1e-7, and beta 200 keeps that out of the loss."""
    before, after = workers
    config = lab.config(before, 3, "full", objective={"name": "dpo", "beta": 200}, offload=offload)
    check_alike(*resized(lab, tmp_path, config, after, SHARDED), lr=RATES["full"])
