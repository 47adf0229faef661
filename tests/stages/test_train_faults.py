"""Training that is killed, and training without a compiler: in processes of their own."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kit.models import tiny_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
import ray
from prefopt.stages import train
from tests.kit.training import training_config, training_context

root = Path(sys.argv[1])
objective = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}
config = training_config(root / "model", root / "store", workers=2, steps=40, checkpoint_every=2, objective=objective)
ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
train.run(training_context(root / sys.argv[2], config))
ray.shutdown()
"""


def _start(root: Path, name: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root), name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors.decode()[-3000:]


def _wait_for(found: Callable[[], object], process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "nothing to kill in time"
        time.sleep(0.05)


def _digests(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and "work" not in path.parts]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    tiny_pipeline(root / "model")
    _finish(_start(root, "undisturbed"))
    return root


def _checkpoints(root: Path, name: str) -> list[Path]:
    return sorted((root / name / "train" / "work" / "checkpoints").glob("step-*/manifest.json"))


def test_killed_with_all_its_processes_it_resumes_to_the_same_bytes(undisturbed: Path) -> None:
    process = _start(undisturbed, "killed")
    _wait_for(lambda: _checkpoints(undisturbed, "killed"), process)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.wait()
    assert not (undisturbed / "killed" / "train" / "steps.jsonl").exists()
    assert _checkpoints(undisturbed, "killed")
    _finish(_start(undisturbed, "killed"))
    assert _digests(undisturbed / "killed" / "train") == _digests(undisturbed / "undisturbed" / "train")


def test_a_lost_worker_restarts_from_the_newest_checkpoint(undisturbed: Path) -> None:
    process = _start(undisturbed, "lost")
    _wait_for(lambda: _checkpoints(undisturbed, "lost"), process)
    worker = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.cmdline() and "RayTrainWorker" in child.cmdline()[0]
    )
    worker.kill()
    _finish(process)
    assert _digests(undisturbed / "lost" / "train") == _digests(undisturbed / "undisturbed" / "train")


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
    _finish(_start(undisturbed, "bare", PATH=str(tools), TORCH_EXTENSIONS_DIR=str(cache)))
    assert _digests(undisturbed / "bare" / "train") == _digests(undisturbed / "undisturbed" / "train")
    assert not cache.exists()
