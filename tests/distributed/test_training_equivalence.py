"""Runs that must train alike, for each objective: 20 steps at beta 2000 and lr 1e-5 on the embedded world.

Class A, the work moved: other workers, other ZeRO stages, interrupted and resumed, a worker killed. Losses agree within
1e-4, and to the byte where nothing but the process changed.
Class B, the shape changed: the global batch in other micro-batches, the reference's errors from the store. Losses agree
within 1e-3 with a mean difference below 1e-4 in float32, and within 1e-9 in float64, where tests.kit.plain_training
says what is real and what stands in.
No weight is ever further away than one step of the optimizer can take it, which is the learning rate.

The embedded model's errors are 0.01 to 1, a random model's near 1: float32 rounds them by 1e-9 to 6e-8, and beta
multiplies that by a thousand.
"""

import hashlib
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from prefopt.config import RunConfig
from prefopt.data.storage import Storage
from prefopt.stages import train
from prefopt.stages.base import StageContext, StageResult
from tests.kit.plain_training import PlainRun, train_plain
from tests.kit.processes import checkpoints
from tests.kit.training import fresh_output, read_steps, with_workers
from tests.kit.trajectories import LR, OBJECTIVES, STEPS, setting, stored, trajectory_config
from tests.kit.workers import WorkerGroups
from tests.kit.world_training import world_context

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARDED = {"stage3_param_persistence_threshold": 0}
HALF = STEPS // 2
MOVED, CHANGED, EXACT = 1e-4, 1e-3, 1e-9
"""Largest difference of a loss: class A, class B in float32, class B in float64."""
MOST = "adaptive_dpo"
"""The objective that keeps most beside weights and optimizer: averages and a running scale."""
DIAGONAL = (("dpo", 1), ("smpo", 2), (MOST, 3))
"""Every objective and every ZeRO stage that shards."""
RESIZED = [
    (MOST, 0, (1, 2)),
    *((name, zero, (2, 1)) for name, zero in DIAGONAL),
    *(
        pytest.param(*case, marks=pytest.mark.matrix)
        for case in (
            *((MOST, zero, (2, 1)) for zero in (0, 1)),
            (MOST, 2, (1, 2)),
            *((name, 0, (2, 1)) for name in ("dpo", "smpo")),
            *((name, 2, (1, 2)) for name in ("dpo", "smpo")),
        )
    ),
]
every_objective = pytest.mark.parametrize("name", list(OBJECTIVES))
one_objective_first = pytest.mark.parametrize(
    "name", [MOST, *(pytest.param(name, marks=pytest.mark.matrix) for name in OBJECTIVES if name != MOST)]
)


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    context: StageContext
    result: StageResult

    @property
    def steps(self) -> list[dict[str, Any]]:
        return read_steps(Path(self.context.output.path("")))

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in self.steps]

    @property
    def digests(self) -> dict[str, str]:
        return {file: hashlib.sha256(self.context.output.read_bytes(file)).hexdigest() for file in self.result.files}

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.context.output.path("model/unet/diffusion_pytorch_model.safetensors"))


class Lab:
    """Runs on warm workers, each done once."""

    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self._done: dict[str, Run] = {}

    def config(self, name: str, **options: Any) -> RunConfig:
        return trajectory_config(self.root / "store", name, **options)

    def whole(self, name: str, workers: int = 1, zero: int = 0, **options: Any) -> Run:
        """An undisturbed run."""
        config = self.config(name, workers=workers, zero=zero, **options)
        key = config.model_dump_json()
        if key not in self._done:
            self._done[key] = self._train(world_context(self.root / f"run-{len(self._done)}", config))
        return self._done[key]

    def resumed(self, whole: Run, place: Path, workers: int) -> Run:
        """What becomes of a run that died after its first checkpoint and goes on with so many workers."""
        shutil.copytree(whole.context.output.path("work"), place / "work")
        for file in (place / "work" / "checkpoints").glob(f"step-{STEPS:08d}.*"):
            shutil.rmtree(file)
        for file in (place / "work" / "segments").glob(f"*-{STEPS:08d}.*"):
            file.unlink()
        again = fresh_output(whole.context, place)
        return self._train(replace(again, config=with_workers(again.config, workers)))

    def _train(self, context: StageContext) -> Run:
        options = context.config.train
        group = self._workers.get(options.workers, options.zero_stage)
        return Run(context, group.run_stage(context, **(SHARDED if options.zero_stage == 3 else {})))


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("equivalence"), worker_groups)


def check_losses(seen: Sequence[float], expected: Sequence[float], largest: float) -> None:
    """No step is further away, and the differences go both ways."""
    differences = np.subtract(seen, expected)
    assert np.abs(differences).max() <= largest
    assert abs(differences.mean()) <= 0.1 * largest


def check_weights(seen: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """A step of Adam is about LR whatever the gradient: where that is next to nothing, its sign may turn."""
    assert seen.keys() == expected.keys()
    assert max(float((seen[key] - expected[key]).abs().max()) for key in expected) <= 2 * LR


def check_alike(seen: Run, expected: Run, largest: float) -> None:
    check_losses(seen.losses, expected.losses, largest)
    check_weights(seen.weights, expected.weights)


@every_objective
def test_the_trajectory_is_the_stored_one(lab: Lab, name: str) -> None:
    """Within class B's tolerance: another kind of CPU adds float32 numbers in another order, as another shape does."""
    run, known = lab.whole(name), stored(name)
    assert known["setting"] == setting(name, run.context.config)
    check_losses(run.losses, known["loss"], CHANGED)
    assert [line["grad_norm"] for line in run.steps] == pytest.approx(known["grad_norm"], rel=1e-2)


@every_objective
def test_there_is_something_to_compare(lab: Lab, name: str) -> None:
    """The losses move by far more than any tolerance and no two objectives agree. Without averages that have parted
    from the policy u would be 0, and adaptive_dpo would be dpo."""
    run = lab.whole(name)
    assert np.ptp(run.losses) > 20 * CHANGED
    others = [lab.whole(other) for other in OBJECTIVES if other != name]
    assert min(np.abs(np.subtract(run.losses, other.losses)).max() for other in others) > 10 * CHANGED
    if name == "adaptive_dpo":
        assert float(np.mean([line["u_mean"] for line in run.steps[HALF:]])) > 0.05


@one_objective_first
def test_one_and_two_workers_write_the_same_bytes(lab: Lab, name: str) -> None:
    assert lab.whole(name, workers=2).digests == lab.whole(name).digests


@pytest.mark.parametrize(
    ("name", "zero"),
    [
        *DIAGONAL,
        *(
            pytest.param(name, zero, marks=pytest.mark.matrix)
            for name in OBJECTIVES
            for zero in (1, 2, 3)
            if (name, zero) not in DIAGONAL
        ),
    ],
)
def test_every_stage(lab: Lab, name: str, zero: int) -> None:
    check_alike(lab.whole(name, 2, zero), lab.whole(name), MOVED)


@one_objective_first
def test_interrupted_and_resumed_writes_the_same_bytes(lab: Lab, tmp_path: Path, name: str) -> None:
    whole = lab.whole(name, workers=2)
    assert lab.resumed(whole, tmp_path, workers=2).digests == whole.digests


@pytest.mark.parametrize(("name", "zero", "workers"), RESIZED)
def test_resumed_on_another_number_of_workers(
    lab: Lab, tmp_path: Path, name: str, zero: int, workers: tuple[int, int]
) -> None:
    before, after = workers
    whole = lab.whole(name, before, zero)
    again = lab.resumed(whole, tmp_path, after)
    assert again.steps[:HALF] == whole.steps[:HALF]
    check_alike(again, lab.whole(name), MOVED)


@one_objective_first
def test_a_worker_killed_under_ray_train_changes_no_byte(lab: Lab, tmp_path: Path, name: str) -> None:
    """kill -9 after the first of four checkpoints; Ray Train starts all workers again."""
    often = {"checkpoint_every": STEPS // 4, "keep_checkpoints": 9}
    context = world_context(tmp_path, lab.config(name, workers=2, **often))
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_a_worker, context.output)
        result = train.run(context)
        assert killed.result() < STEPS
    starts = {Path(place).name.split(".")[1].split("-")[0] for place in checkpoints(context.output)}
    assert len(starts) == 2
    assert Run(context, result).digests == lab.whole(name, workers=2).digests


def kill_a_worker(output: Storage, seconds: float = 200) -> int:
    """kill -9 of one of Ray Train's workers once a checkpoint is there; gives the steps of the newest."""
    end = time.monotonic() + seconds
    while not (found := checkpoints(output)):
        assert time.monotonic() < end, "no checkpoint in time"
        time.sleep(0.02)
    family = psutil.Process().children(recursive=True)
    workers = [child for child in family if "RayTrainWorker" in "".join(child.cmdline()[:1])]
    workers[-1].kill()
    return int(Path(found[-1]).name[5:13])


@pytest.mark.parametrize(
    ("name", "micro_batch"),
    [
        ("dpo", 8),
        (MOST, 2),
        ("smpo", 8),
        *(pytest.param(name, count, marks=pytest.mark.matrix) for name, count in (("dpo", 2), (MOST, 8), ("smpo", 2))),
    ],
)
def test_the_batch_in_other_micro_batches(lab: Lab, name: str, micro_batch: int) -> None:
    check_alike(lab.whole(name, micro_batch=micro_batch), lab.whole(name), CHANGED)


@every_objective
def test_a_reference_from_the_store(lab: Lab, name: str) -> None:
    cached = lab.whole(name, reference="cached")
    assert cached.losses != lab.whole(name).losses
    check_alike(cached, lab.whole(name), CHANGED)


def plain(lab: Lab, place: Path, name: str, *, known: bool = False, **options: Any) -> PlainRun:
    job, _ = train.prepare(world_context(place, lab.config(name, **options)))
    return train_plain(job, known=known)


@pytest.mark.usefixtures("process_group")
@one_objective_first
def test_in_float64_the_shape_changes_nothing(lab: Lab, tmp_path: Path, name: str) -> None:
    """One micro-batch, or four with the reference's errors known beforehand. The engine's float32 run is the same."""
    whole = plain(lab, tmp_path / "whole", name)
    one = plain(lab, tmp_path / "one", name, micro_batch=8)
    four = plain(lab, tmp_path / "four", name, micro_batch=2, known=True)
    for run in (one, four):
        check_losses(run.losses, whole.losses, EXACT)
        check_weights(run.weights, whole.weights)
    check_losses(whole.losses, lab.whole(name).losses, CHANGED)
    check_weights({key: value.float() for key, value in whole.weights.items()}, lab.whole(name).weights)
