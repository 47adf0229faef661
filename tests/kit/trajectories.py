"""Stored reference trajectories: 20 steps of each objective on the embedded world's model and pictures.

`python -m tests.kit.trajectories` (from the repository's root; needs no cluster) trains them anew on one worker at
ZeRO 0 and rewrites tests/distributed/trajectories. Tests never do: who rewrites them says why in the commit.
"""

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

from prefopt.config import RunConfig
from prefopt.models.identity import model_digest
from prefopt.stages.base import StageContext
from prefopt.stages.chain import cpu_kind
from tests.kit.training import read_steps
from tests.kit.workers import WorkerGroup
from tests.kit.world_training import world_config, world_context

PLACE = Path(__file__).parents[1] / "distributed" / "trajectories"
STEPS = 20
LR = 1e-5
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {"objective": {"name": "dpo", "beta": 2000}},
    "adaptive_dpo": {
        "objective": {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 8, "ema": {"slow": 0.9, "ramp": False}}}
    },
    "smpo": {"objective": {"name": "smpo", "beta": 2000}, "inversion": "renoise"},
}
"""By objective. u counts from the ninth step on, with averages that have parted from the policy by then.

u is made of gaps between errors in units of their root mean square, and W falls ten times as fast as u rises: while
the gaps are small, as in the first steps or between averages that the ramp holds close to the policy, that carries the
last bits of float32 errors into the fourth decimal of the loss.
"""
_LIBRARIES = ("torch", "deepspeed", "diffusers", "transformers")


def trajectory_config(store: Path, name: str, **train: Any) -> RunConfig:
    """The config of an objective's trajectory: 20 steps on two micro-batches of four pairs, a checkpoint half-way."""
    defaults = {"steps": STEPS, "checkpoint_every": STEPS // 2, "optimizer": {"lr": LR}}
    return world_config(store, **{**defaults, **OBJECTIVES[name], **train})


def stored(name: str) -> dict[str, Any]:
    """What is stored: the setting, the libraries and the kind of CPU that made it, and `loss` and `grad_norm`."""
    content: dict[str, Any] = json.loads((PLACE / f"{name}.json").read_text())
    return content


def setting(name: str, config: RunConfig) -> dict[str, Any]:
    """What decides a trajectory: a stored one of another setting says nothing."""
    train = config.train
    batch = {"global_batch": train.global_batch, "micro_batch": train.micro_batch}
    return {"model": model_digest(config.model), "steps": train.steps, "lr": LR, **batch, **OBJECTIVES[name]}


def record(name: str, context: StageContext) -> dict[str, Any]:
    """The trajectory of a run that has ended."""
    lines = read_steps(Path(context.output.path("")))
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "setting": setting(name, context.config),
        "environment": {**libraries, "cpu": cpu_kind()},
        "loss": [line["loss"] for line in lines],
        "grad_norm": [line["grad_norm"] for line in lines],
    }


def main() -> None:
    """Train and rewrite all of them."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        group = WorkerGroup(1, root / "rendezvous")
        for name in OBJECTIVES:
            context = world_context(root / name, trajectory_config(root / "store", name))
            group.run_stage(context)
            (PLACE / f"{name}.json").write_text(json.dumps(record(name, context), indent=1, sort_keys=True) + "\n")
        group.close()
    ray.shutdown()


if __name__ == "__main__":
    main()
