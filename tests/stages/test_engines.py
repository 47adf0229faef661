"""The whole chain in one process, which never imports Ray, and on Ray: the same keys and the same bytes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import parse_config
from prefopt.stages.keys import STAGES
from tests.kit.data import fingerprint, run_stages
from tests.kit.pipelines import as_yaml, world_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = """
import sys
from prefopt import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
print("ray" in sys.modules)
"""


def tree(place: Path, **cluster: Any) -> dict[str, Any]:
    """A small run on two training workers, or on the one of a process."""
    return world_tree(place, train={"micro_batch": 4, "workers": 2}, cluster=cluster)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("engines")
    (root / "my.yaml").write_text(as_yaml(tree(root)))
    return root


@pytest.fixture(scope="module")
def whole(place: Path) -> subprocess.CompletedProcess[str]:
    """`prefopt run` in a process of its own, which tells in the end whether Ray was imported."""
    command = [sys.executable, "-c", RUN, "run", str(place / "my.yaml"), "--run-dir", str(place / "process")]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)


def test_a_run_in_its_own_process_never_imports_ray(whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert whole.stdout.splitlines()[-1] == "False"


def test_both_engines_give_every_stage_the_same_key_and_the_same_bytes(
    whole: subprocess.CompletedProcess[str], place: Path, ray_session: None
) -> None:
    there = parse_config(tree(place / "elsewhere", engine="ray", workers=2), "ray")
    run_stages(there, place / "ray", tuple(STAGES))
    made = fingerprint(place / "process")
    assert made.keys() == STAGES.keys()
    assert fingerprint(place / "ray") == made
