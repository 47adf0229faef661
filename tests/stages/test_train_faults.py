"""Training that is killed, and training without a compiler: in processes of their own."""

import shutil
import signal
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.distributed.training.live import read_live
from tests.kit.models import tiny_pipeline
from tests.kit.processes import checkpoints, digests, finish, kill_family, start_training, wait_for, workers_of
from tests.kit.s3 import object_store
from tests.kit.slow_storage import REACHED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    tiny_pipeline(root / "model")
    finish(start_training(root, "undisturbed", {"engine": "process"}))
    return root


def output(root: Path, name: str) -> Storage:
    return Storage(str(root / name / "train"))


def made(undisturbed: Path) -> dict[str, str]:
    return digests(output(undisturbed, "undisturbed"))


@pytest.mark.matrix
def test_killed_with_all_its_processes_it_resumes_to_the_same_bytes(undisturbed: Path) -> None:
    process, place = start_training(undisturbed, "killed"), output(undisturbed, "killed")
    wait_for(lambda: checkpoints(place), process)
    kill_family(process)
    assert not place.exists("steps.jsonl")
    assert checkpoints(place)
    finish(start_training(undisturbed, "killed"))
    assert digests(place) == made(undisturbed)


@pytest.mark.matrix
def test_a_killed_driver_is_started_again_at_once(undisturbed: Path) -> None:
    """Its workers may live on for some seconds: two writers in one directory."""
    process, place = start_training(undisturbed, "driver"), output(undisturbed, "driver")
    wait_for(lambda: checkpoints(place), process)
    process.send_signal(signal.SIGKILL)
    finish(start_training(undisturbed, "driver"))
    process.communicate()
    assert digests(place) == made(undisturbed)


@pytest.mark.matrix
def test_a_lost_worker_restarts_from_the_newest_checkpoint(undisturbed: Path) -> None:
    """The first one, which writes what all share; another one is lost in test_training_equivalence.py."""
    process, place = start_training(undisturbed, "lost"), output(undisturbed, "lost")
    wait_for(lambda: checkpoints(place), process)
    workers_of(process)[0].kill()
    finish(process)
    assert digests(place) == made(undisturbed)


@pytest.mark.matrix
@pytest.mark.parametrize("hold", ["manifest.json", "part-00001.json"])
def test_killed_while_a_checkpoint_is_stored(undisturbed: Path, hold: str) -> None:
    """Training goes on meanwhile, to the next checkpoint; the unfinished one is never resumed from."""
    name = hold.split(".")[0]
    place, logs = output(undisturbed, name), Storage(str(undisturbed / name / "logs"))
    options = {"hold": f"step-00000020.*/{hold}", "train": {"checkpoint_every": 10}}
    process = start_training(undisturbed, name, options)
    wait_for(lambda: place.exists(REACHED), process)
    wait_for(lambda: read_live(logs).done > 20, process)
    kill_family(process)
    assert [name.split("/")[2][:13] for name in checkpoints(place)] == ["step-00000010"]
    assert [file for file in place.files("work/checkpoints") if "step-00000020." in file and "engine/" in file]
    said = finish(start_training(undisturbed, name))
    assert "The checkpoint after 20 steps is passed over: it was not finished." in said
    assert "Training goes on after 10 steps." in said
    assert digests(place) == made(undisturbed)


@pytest.mark.matrix
def test_a_run_on_an_object_store_is_killed_and_resumes(undisturbed: Path) -> None:
    with object_store() as uri:
        place = Storage(f"{uri}/run/train")
        options = {"uri": f"{uri}/run"}
        process = start_training(undisturbed, "s3", options)
        wait_for(lambda: checkpoints(place), process)
        kill_family(process)
        assert checkpoints(place)
        finish(start_training(undisturbed, "s3", options))
        assert digests(place) == made(undisturbed)
        assert len(checkpoints(place)) == 2


@pytest.mark.matrix
def test_an_object_stores_run_goes_on_with_another_number_of_workers(undisturbed: Path) -> None:
    with object_store() as uri:
        place = Storage(f"{uri}/run/train")
        options = {"uri": f"{uri}/run", "train": {"zero": 2}}
        process = start_training(undisturbed, "s3-zero", options)
        wait_for(lambda: checkpoints(place), process)
        kill_family(process)
        finish(start_training(undisturbed, "s3-zero", {"uri": f"{uri}/run", "train": {"zero": 2, "workers": 1}}))
        assert len(place.read_bytes("steps.jsonl").splitlines()) == 40


def test_no_compiler_is_needed(undisturbed: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "env", "uname", "ls", "ps", "cat"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    for name in ("gcc", "g++", "cc", "c++", "clang", "ninja", "nvcc"):
        assert shutil.which(name, path=str(tools)) is None
    cache = tmp_path / "extensions"
    finish(start_training(undisturbed, "bare", {"engine": "process"}, PATH=str(tools), TORCH_EXTENSIONS_DIR=str(cache)))
    assert digests(output(undisturbed, "bare")) == made(undisturbed)
    assert not cache.exists()
