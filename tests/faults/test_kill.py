"""kill -9 in the middle of each stage: the next command finishes and makes what an undisturbed run makes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt.stages.keys import STAGES
from prefopt.world.dataset import write_dataset
from tests.kit.commands import command, run_command
from tests.kit.data import config_tree, fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = {
    "ingest": r"ingest: rows [1-9]",
    "inject": r"inject: images [1-9]",
    "score": r"score: images [1-9]",
    "card": r"card: thumbnails [1-9]",
    "train": r"train: steps [12]\d/",
    "evaluate": r"evaluate: images [1-9]",
}
"""Stage, in order, to the progress line at which the command is killed."""
RARE = ("ingest", "inject", "card", "train")
"""Stages that `make test-matrix` alone kills: their units are done as those of score are, and the damaged checkpoint's
test kills train."""
KILLED = [
    ("score", "ray"),
    ("evaluate", "process"),
    *(pytest.param(stage, "ray", marks=pytest.mark.matrix) for stage in (*RARE, "evaluate")),
]
"""Stages, and where they work when they are killed."""


def setting(place: Path, data: Path, engine: str = "process") -> Path:
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
        train={
            "method": "full",
            "objective": {"name": "adaptive_dpo"},
            "steps": 40,
            "global_batch": 16,
            "micro_batch": 8,
            "workers": 2,
            "checkpoint_every": 5,
        },
        evaluate={
            "prompt_sets": [{"kind": "heldout", "most": 24}],
            "unit_prompts": 4,
            "batch": 4,
            "sampler": {"steps": 10, "guidance": 3.0, "resolution": 32},
            "accuracy": {"pairs": 32, "draws": 1},
        },
        cluster={"engine": engine},
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
    """The directory of a whole run, without a fault."""
    place = tmp_path_factory.mktemp("undisturbed")
    run_command("run", str(setting(place, data)), "--run-dir", "run", directory=place)
    return place


def begin(stage: str, undisturbed: Path, place: Path) -> None:
    """Bring a run to where `stage` begins, with the outputs of an undisturbed run that do not depend on it, and the
    store they need."""
    lost = {stage}
    for name, spec in STAGES.items():
        if lost & set(spec.parents):
            lost.add(name)
    for name in STAGES.keys() - lost:
        shutil.copytree(undisturbed / "run" / name, place / "run" / name)
    if "score" not in lost:
        shutil.copytree(undisturbed / "store", place / "store", ignore=shutil.ignore_patterns("generated"))


@pytest.mark.parametrize(("stage", "engine"), KILLED)
def test_a_run_killed_in_a_stage_finishes_to_the_same_bytes(
    stage: str, engine: str, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = setting(tmp_path, data, engine)
    begin(stage, undisturbed, tmp_path)
    arguments = (stage, str(config), "--run-dir", "run")
    with command(*arguments, directory=tmp_path) as running:
        line = next((line for line in running.lines() if re.match(KILLS[stage], line)), None)
        running.kill()
    assert line is not None, f"{stage} never said {KILLS[stage]}: {running.said}"
    assert not list((tmp_path / "run").glob(f"{stage}/*/manifest.json")), "killed too late"
    run_command(*arguments, directory=tmp_path)
    assert fingerprint(tmp_path / "run")[stage] == fingerprint(undisturbed / "run")[stage]
    said = run_command(*arguments, directory=tmp_path)
    assert [line.split(" (")[0] for line in said] == [f"{stage}: up to date"]


def test_a_damaged_checkpoint_is_passed_over_and_it_is_said(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = setting(tmp_path, data)
    begin("train", undisturbed, tmp_path)
    arguments = ("run", str(config), "--run-dir", "run")
    with command(*arguments, directory=tmp_path) as running:
        assert any(re.match(r"train: steps [23]\d/", line) for line in running.lines())
        running.kill()
    *_, newest = sorted((tmp_path / "run").glob("train/*/work/checkpoints/*/manifest.json"))
    engine = newest.parent / "engine" / "mp_rank_00_model_states.pt"
    engine.write_bytes(engine.read_bytes()[:-1])
    said = run_command(*arguments, directory=tmp_path)
    step = int(newest.parent.name[5:13])
    sentence = f"prefopt.train: The checkpoint after {step} steps is passed over: engine/"
    assert any(sentence in line for line in said)
    assert fingerprint(tmp_path / "run") == fingerprint(undisturbed / "run")
