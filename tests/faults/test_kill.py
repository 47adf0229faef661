"""kill -9 in the middle of each stage: the next run finishes and makes what an undisturbed run makes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt.world.dataset import write_dataset
from tests.kit.commands import command, run_command
from tests.kit.data import config_tree, fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = {
    "ingest": r"ingest: rows [1-9]",
    "inject": r"inject: images [1-9]",
    "score": r"score: images [1-9]",
}
"""Stage, in order, to the progress line at which it is killed."""


def setting(place: Path, data: Path) -> Path:
    """Write the config of a run with many small units; gives its path."""
    source = {"kind": "pickapic", "path": str(data), "group_column": "user_group"}
    flips: list[dict[str, Any]] = [
        {"kind": "symmetric", "rate": 0.2},
        {"kind": "gap", "rate": 0.2, "reward": "world/style"},
    ]
    panel = {"rewards": ["world/fidelity", "world/composition"]}
    tree = config_tree(
        place,
        [source],
        inject={"flips": flips},
        score={"alpha": {"reward": "world/taste"}, "panel": panel, "visits": {"flip": 0.5}},
        train={"steps": 8, "global_batch": 16, "micro_batch": 8},
    )
    path = place / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, pairs=300, seed=0, row_group_rows=10, rows_per_file=100)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of all stages, without a fault."""
    place = tmp_path_factory.mktemp("undisturbed")
    config = setting(place, data)
    for stage in KILLS:
        run_command(stage, str(config), "--run-dir", "run", directory=place)
    return place / "run"


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_finishes_to_the_same_bytes(stage: str, data: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = setting(tmp_path, data)
    before = list(KILLS)[: list(KILLS).index(stage)]
    for name in before:
        shutil.copytree(undisturbed / name, tmp_path / "run" / name)
    arguments = (stage, str(config), "--run-dir", "run")
    with command(*arguments, directory=tmp_path) as running:
        line = next((line for line in running.lines() if re.match(KILLS[stage], line)), None)
        running.kill()
    assert line is not None, f"{stage} never said {KILLS[stage]}: {running.said}"
    assert not list((tmp_path / "run").glob(f"{stage}/*/manifest.json")), "killed too late"
    run_command(*arguments, directory=tmp_path)
    expected = fingerprint(undisturbed)
    assert fingerprint(tmp_path / "run") == {name: expected[name] for name in (*before, stage)}
    said = run_command(*arguments, directory=tmp_path)
    assert said == [line for line in said if line.startswith(f"{stage}: up to date")]
