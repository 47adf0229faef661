"""A damaged or foreign newest checkpoint: the run goes on from the one before, says so, and ends the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prefopt.stages.base import StageContext, StageResult
from tests.distributed.test_training_runs import digests, newest_checkpoint, said
from tests.kit.models import tiny_pipeline
from tests.kit.training import fresh_output, training_config, training_context
from tests.kit.workers import WorkerGroup, WorkerGroups

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OBJECTIVE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}
SETTINGS = {"workers": 2, "zero": 1, "objective": OBJECTIVE}


def train(group: WorkerGroup, place: Path, model: Path) -> tuple[StageContext, StageResult]:
    context = training_context(place, training_config(model, place / "store", **SETTINGS))
    return context, group.run_stage(context)


class Lab:
    """An undisturbed run of six steps, with checkpoints after 3 and 6, and one of another model."""

    def __init__(self, root: Path, group: WorkerGroup) -> None:
        self.group = group
        self.context, self.result = train(self.group, root / "run", tiny_pipeline(root / "model"))
        self.other, _ = train(self.group, root / "other", tiny_pipeline(root / "other-model", seed=1))


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("checkpoints"), worker_groups.get(2))


def cut(newest: Path) -> None:
    file = newest / "engine" / "mp_rank_00_model_states.pt"
    file.write_bytes(file.read_bytes()[:1000])


def flip(newest: Path) -> None:
    file = newest / "engine" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose_shadow(newest: Path) -> None:
    (newest / "shadows" / "00001.safetensors").unlink()


def lose_manifest(newest: Path) -> None:
    (newest / "manifest.json").unlink()


def cut_manifest(newest: Path) -> None:
    file = newest / "manifest.json"
    file.write_bytes(file.read_bytes()[:-1])


def change_fingerprint(newest: Path) -> None:
    file = newest / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "0" * 64}))


DAMAGES: dict[Callable[[Path], None], str] = {
    cut: "engine/mp_rank_00_model_states.pt has 1000 bytes, not ",
    flip: "engine/zero_pp_rank_1_mp_rank_00_optim_states.pt is not what was written, by its sha256.",
    lose_shadow: "shadows/00001.safetensors is missing.",
    lose_manifest: "it was not finished.",
    cut_manifest: "its manifest.json is damaged.",
    change_fingerprint: "it belongs to another model, plan or config.",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_previous_checkpoint_is_used(lab: Lab, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    again = fresh_output(lab.context, tmp_path / "again")
    shutil.copytree(lab.context.output.path("work"), tmp_path / "again" / "work")
    damage(newest_checkpoint(tmp_path / "again"))
    assert digests(again, lab.group.run_stage(again)) == digests(lab.context, lab.result)
    assert f"The checkpoint after 6 steps is passed over: {DAMAGES[damage]}" in said(again)
    assert "Training goes on after 3 steps." in said(again)


def test_a_checkpoint_of_another_model_is_not_used(lab: Lab, tmp_path: Path) -> None:
    again = fresh_output(lab.context, tmp_path / "again")
    shutil.copytree(lab.context.output.path("work"), tmp_path / "again" / "work")
    shutil.rmtree(newest_checkpoint(tmp_path / "again"))
    foreign = newest_checkpoint(Path(lab.other.output.path("")))
    shutil.copytree(foreign, tmp_path / "again" / "work" / "checkpoints" / foreign.name)
    assert digests(again, lab.group.run_stage(again)) == digests(lab.context, lab.result)
    assert "The checkpoint after 6 steps is passed over: it belongs to another model" in said(again)


def test_with_no_whole_checkpoint_it_starts_anew(lab: Lab, tmp_path: Path) -> None:
    again = fresh_output(lab.context, tmp_path / "again")
    shutil.copytree(lab.context.output.path("work"), tmp_path / "again" / "work")
    for checkpoint in (tmp_path / "again" / "work" / "checkpoints").iterdir():
        lose_shadow(checkpoint)
    assert digests(again, lab.group.run_stage(again)) == digests(lab.context, lab.result)
    assert said(again).splitlines()[-1] == "Training starts anew."
    assert len(said(again).splitlines()) == 3
