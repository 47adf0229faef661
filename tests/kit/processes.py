"""Processes that train a made-up run, to be killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from prefopt.data.storage import Storage

ROOT = Path(__file__).parents[2]


def start_training(
    root: Path, name: str, options: dict[str, Any] | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start `tests.kit.train_main` on the model, store and options of a run below `root`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kit.train_main", str(root), name, json.dumps(options or {})],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


HEED_INTERRUPTS = ("env", "--default-signal=INT")
"""Before a command: what tests that run in the background start would ignore SIGINT. A `preexec_fn` must not do it: it
forks this process, and the Ray that is connected to it may never answer again."""


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end, which must be good; gives what was said on standard error."""
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said[-3000:]
    return said


def wait_for(found: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until something is there, while the process runs."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "nothing to kill in time"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The training workers, in the order in which they were started."""
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if child.cmdline() and "RayTrainWorker" in child.cmdline()[0]]
    return sorted(workers, key=lambda worker: worker.pid)


def kill_family(process: subprocess.Popen[str]) -> None:
    """kill -9 of the driver and of everything that it started."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(family, timeout=20)


def checkpoints(output: Storage) -> list[str]:
    """Directories of the committed checkpoints of a stage, oldest first."""
    names = output.files("work/checkpoints")
    return sorted(name.removesuffix("/manifest.json") for name in names if name.endswith("/manifest.json"))


def digests(output: Storage) -> dict[str, str]:
    """sha256 of a stage's files, without its work directory."""
    names = [name for name in output.files() if not name.startswith("work/") and name != "held"]
    return {name: hashlib.sha256(output.read_bytes(name)).hexdigest() for name in names}
