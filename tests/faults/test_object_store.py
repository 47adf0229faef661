"""A whole run whose sources, store and run directory lie on an object store."""

from pathlib import Path

import pytest
import yaml

from prefopt.data.storage import Storage
from prefopt.world.dataset import write_dataset
from tests.kit.commands import run_command
from tests.kit.data import config_tree, fingerprint
from tests.kit.s3 import object_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def setting(place: Path, data: str, root: str, engine: str) -> Path:
    """Write the config of a small run with every kind of stored row; gives its path."""
    panel = {"rewards": ["world/fidelity", "world/composition"]}
    visits = {"inversion": "renoise", "steps": 2, "batch": 4, "flip": 0.5}
    tree = config_tree(
        place,
        [{"kind": "pickapic", "path": data, "group_column": "user_group"}],
        store=f"{root}/store",
        score={"alpha": {"reward": "world/taste"}, "panel": panel, "visits": visits},
        train={"method": "full", "reference": "cached", "checkpoint_every": 1, "objective": {"name": "smpo"}},
        evaluate={
            "prompt_sets": [{"kind": "heldout", "most": 8}],
            "sampler": {"steps": 4, "guidance": 3.0, "resolution": 32},
        },
        cluster={"engine": engine},
    )
    path = place / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_run_on_an_object_store_is_the_run_on_a_disk(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", pairs=60, seed=0, row_group_rows=10, rows_per_file=30)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    config = setting(tmp_path / "here", str(tmp_path / "data"), str(tmp_path / "here"), "process")
    run_command("run", str(config), "--run-dir", "run", directory=tmp_path / "here")
    with object_store() as bucket:
        for path in sorted((tmp_path / "data").rglob("*")):
            if path.is_file():
                Storage(f"{bucket}/data").write_bytes(str(path.relative_to(tmp_path / "data")), path.read_bytes())
        config = setting(tmp_path / "there", f"{bucket}/data", f"{bucket}/mine", "ray")
        arguments = ("run", str(config), "--run-dir", f"{bucket}/mine/run")
        run_command(*arguments, directory=tmp_path / "there")
        here, there = fingerprint(tmp_path / "here" / "run"), fingerprint(f"{bucket}/mine/run")
        said = run_command(*arguments, directory=tmp_path / "there")
        left = sorted(path.name for path in (tmp_path / "there").rglob("*"))
    assert all("up to date" in line for line in said), said
    assert set(here) == {"ingest", "inject", "score", "card", "train", "evaluate"}
    assert there == here
    assert left == ["my.yaml"]
