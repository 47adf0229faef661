"""Components and pipelines on Kubeflow's local runner, and the smallest runs of the embedded world."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from kfp import local
from kfp.components import load_component_from_file

ROOT = Path(__file__).parents[2]


def run_locally(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a component or pipeline that is called runs at once, in processes of this environment, and its stages
    on the Ray of this process if there is one."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path[1:]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if ray.is_initialized():
        monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(place), raise_on_error=True)


def compiled(name: str) -> Any:
    """A pipeline as it is committed and uploaded, to be called."""
    return load_component_from_file(str(ROOT / "pipelines" / f"{name}.yaml"))


def shows(artifact: Any, stage_uri: str, root: Path) -> None:
    """Assert that an artifact lies below the pipeline root, is the manifest of a stage, and says where that lies."""
    assert Path(artifact.uri).is_relative_to(root)
    assert Path(artifact.path).read_text() == (Path(stage_uri) / "manifest.json").read_text()
    assert artifact.metadata["uri"] == stage_uri


def world_tree(place: Path, **branches: Any) -> dict[str, Any]:
    """A config tree that trains two steps on the embedded world, without Ray; `branches` are merged one level deep."""
    tree: dict[str, Any] = {
        "name": "small",
        "store": str(place / "store"),
        "model": {"path": "world"},
        "ingest": {"sources": [{"kind": "world", "pairs": 40}], "split": {"validation": 0.1, "test": 0.4}},
        "inject": {"flips": [{"kind": "symmetric", "rate": 0.2}]},
        "score": {
            "resolution": 32,
            "alpha": {"reward": "world/taste"},
            "panel": {"rewards": ["world/style", "world/clutter"]},
        },
        "train": {"steps": 2, "global_batch": 8, "micro_batch": 8, "workers": 1, "method": "full"},
        "evaluate": {
            "prompt_sets": [{"kind": "heldout", "most": 6}],
            "sampler": {"steps": 2, "guidance": 3.0, "resolution": 32},
            "rewards": ["world/true"],
            "accuracy": {"pairs": 8, "draws": 1},
            "bootstrap": {"resamples": 100},
        },
        "cluster": {"engine": "process"},
    }
    for name, branch in branches.items():
        tree[name] = {**tree.get(name, {}), **branch} if isinstance(branch, dict) else branch
    return tree


def as_yaml(tree: dict[str, Any]) -> str:
    """The text of a config."""
    return yaml.safe_dump(tree, sort_keys=False)
