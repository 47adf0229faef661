<<<<<<< HEAD
"""Components and pipelines on Kubeflow's local runner, and the smallest runs of the embedded world."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import local

ROOT = Path(__file__).parents[2]


def run_locally(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a component or pipeline that is called runs at once, in processes of this environment."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path[1:]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(place), raise_on_error=True)


def world_tree(place: Path, **branches: Any) -> dict[str, Any]:
    """A config tree that trains two steps on the embedded world; `branches` are merged one level deep."""
    tree: dict[str, Any] = {
        "name": "small",
        "store": str(place / "store"),
        "model": {"path": "world"},
        "ingest": {"sources": [{"kind": "world", "pairs": 40}], "split": {"validation": 0.1, "test": 0.4}},
        "inject": {"flips": [{"kind": "symmetric", "rate": 0.2}]},
        "score": {"resolution": 32, "alpha": {"reward": "world/taste"}, "panel": {"rewards": ["world/style"]}},
        "train": {"steps": 2, "global_batch": 8, "micro_batch": 8, "workers": 1, "method": "full"},
        "evaluate": {
            "prompt_sets": [{"kind": "heldout", "most": 6}],
            "sampler": {"steps": 2, "guidance": 3.0, "resolution": 32},
            "rewards": ["world/true"],
            "accuracy": {"pairs": 8, "draws": 1},
            "bootstrap": {"resamples": 100},
        },
        "cluster": {"workers": 1, "cpus": 2},
    }
    for name, branch in branches.items():
        tree[name] = {**tree.get(name, {}), **branch} if isinstance(branch, dict) else branch
    return tree


def as_yaml(tree: dict[str, Any]) -> str:
    """The text of a config."""
    return yaml.safe_dump(tree, sort_keys=False)
=======
"""Small pipelines with the parameters of prefopt's own, compiled by kfp."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="prefopt:test", install_kfp_package=False)  # type: ignore[untyped-decorator]
def stage(config: str, run_dir: str, overrides: list[str]) -> None:
    """Do nothing."""


@dsl.pipeline(name="align")  # type: ignore[untyped-decorator]
def align(config: str, run_dir: str, overrides: list[str] = [], variants: list[list[str]] = []) -> None:  # noqa: B006
    """A pipeline with variants."""
    stage(config=config, run_dir=run_dir, overrides=overrides)


@dsl.pipeline(name="retrain")  # type: ignore[untyped-decorator]
def retrain(config: str, run_dir: str, overrides: list[str] = []) -> None:  # noqa: B006
    """A pipeline without variants."""
    stage(config=config, run_dir=run_dir, overrides=overrides)


@dsl.pipeline(name="own")  # type: ignore[untyped-decorator]
def own(config: str, run_dir: str, rounds: int, share: float = 0.5, dry: bool = False, more: dict = {}) -> None:  # type: ignore[type-arg]  # noqa: B006
    """A user's pipeline, with a parameter that must be given."""
    stage(config=config, run_dir=run_dir, overrides=[])


def compile_all(directory: Path) -> None:
    """Write align.yaml, retrain.yaml and own.yaml."""
    directory.mkdir(parents=True, exist_ok=True)
    for pipeline in (align, retrain, own):
        compiler.Compiler().compile(pipeline, str(directory / f"{pipeline.name}.yaml"))
>>>>>>> 8381cffdfb2eb3c5a422ecd81af51a15a545c725
