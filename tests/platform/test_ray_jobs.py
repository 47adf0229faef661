"""Jobs on a real Ray cluster: a head and two worker nodes on a loopback of their own, with token authentication on."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt.stages.keys import STAGES
from prefopt.world.dataset import write_dataset
from tests.kit.commands import run_command
from tests.kit.data import config_tree, fingerprint
from tests.kit.processes import wait_for
from tests.kit.ray_cluster import ADDRESS, RayCluster, ray_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AT_WORK = {"score": "work/receipts/images/*.json", "train": "work/checkpoints/*/manifest.json"}
"""Stages to files that show them at work: then a worker node goes away."""
LOST = ["score", pytest.param("train", marks=pytest.mark.matrix)]
"""test_training_equivalence.py loses a worker of train."""
SECONDS = 600
"""Much more than anything here takes on an idle machine."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """The head has no CPU, so that all work is done on the worker nodes."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        cluster.head(cpus=0)
        for _ in range(2):
            cluster.worker(cpus=2)
        yield cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, pairs=120, seed=0, row_group_rows=10, rows_per_file=60)
    return folder


def setting(place: Path, data: Path, engine: str = "ray") -> Path:
    """Write the config of a run with many small units; gives its path."""
    tree = config_tree(
        place,
        [{"kind": "pickapic", "path": str(data), "group_column": "user_group"}],
        score={"alpha": {"reward": "world/taste"}, "panel": {"rewards": ["world/fidelity", "world/composition"]}},
        train={
            "method": "full",
            "steps": 40,
            "global_batch": 8,
            "micro_batch": 4,
            "workers": 2,
            "checkpoint_every": 5,
        },
        evaluate={
            "prompt_sets": [{"kind": "heldout", "most": 4}],
            "sampler": {"steps": 2, "guidance": 3.0, "resolution": 32},
            "accuracy": {"pairs": 8, "draws": 1},
        },
        cluster={"engine": engine},
    )
    path = place / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of the same run without Ray."""
    place = tmp_path_factory.mktemp("local")
    run_command("run", str(setting(place, data, "process")), "--run-dir", "run", directory=place)
    return place


def submit(*arguments: str) -> list[str]:
    return ["prefopt", "submit", "ray", *arguments, "--ray-address", ADDRESS, "--json"]


def submitted(cluster: RayCluster, *arguments: str) -> tuple[dict[str, Any], str]:
    """Answer and log of `prefopt submit ray`, which must succeed."""
    done = cluster.run(submit(*arguments))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def test_every_stage_is_a_job_of_ray_job_submit(cluster: RayCluster, data: Path, local: Path, tmp_path: Path) -> None:
    config, run = setting(tmp_path, data), tmp_path / "run"
    for stage in STAGES:
        job = ["ray", "job", "submit", "--address", ADDRESS, "--working-dir", str(config.parent), "--"]
        done = cluster.run([*job, "prefopt", stage, config.name, "--run-dir", str(run)])
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert fingerprint(run) == fingerprint(local / "run")
    answer, _ = submitted(cluster, "run", str(config), "--run-dir", str(run))
    assert Path(answer["manifest"]).exists()
    assert fingerprint(run) == fingerprint(local / "run")


@pytest.mark.parametrize("stage", LOST)
def test_a_lost_node_changes_nothing(stage: str, cluster: RayCluster, data: Path, local: Path, tmp_path: Path) -> None:
    config, run = str(setting(tmp_path, data)), tmp_path / "run"
    before = list(STAGES)[: list(STAGES).index(stage)]
    for earlier in before:
        shutil.copytree(local / "run" / earlier, run / earlier)
    if "score" in before:
        shutil.copytree(local / "store", tmp_path / "store")
    process = cluster.begin(submit(stage, config, "--run-dir", str(run)))
    wait_for(lambda: list(run.glob(f"{stage}/*/{AT_WORK[stage]}")), process, SECONDS)
    cluster.lose_busiest()
    assert not list(run.glob(f"{stage}/*/manifest.json")), "lost too late"
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        cluster.worker(cpus=2)
    assert process.returncode == 0, said[-3000:]
    assert fingerprint(run)[stage] == fingerprint(local / "run")[stage]


def test_a_second_submission_watches_the_first(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    arguments = ("ingest", str(setting(tmp_path, data)), "--run-dir", str(tmp_path / "run"))
    first = cluster.begin(submit(*arguments))
    assert first.stdout is not None
    name = first.stdout.readline().split()[1]
    answer, said = submitted(cluster, *arguments)
    first.communicate(timeout=SECONDS)
    assert (first.returncode, answer["job"]) == (0, name)
    assert f"Job {name} is there already" in said
    answer, said = submitted(cluster, *arguments)
    assert f"Job {name} is there already (succeeded)" in said
    assert "ingest: " in said


def test_a_failing_stage_tells_its_exit_code_and_last_words(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    config, run = str(setting(tmp_path, data)), str(tmp_path / "run")
    done = cluster.run(submit("score", config, "--run-dir", run))
    assert done.returncode == 3
    assert "failed with exit code 3" in done.stderr
    assert done.stderr.rstrip().endswith("run `prefopt ingest` first, or `prefopt run` for the whole chain.")
    assert "Traceback" not in done.stderr
    again = cluster.run(submit("score", config, "--run-dir", run))
    assert re.search(r"Job prefopt-score-[0-9a-f]{12}-2 on", again.stderr)


def test_ctrl_c_leaves_the_job_and_says_so(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    config = str(setting(tmp_path, data))
    process = cluster.begin(submit("ingest", config, "--run-dir", str(tmp_path / "run"), "--set", "limit=3"))
    assert process.stdout is not None
    name = process.stdout.readline().split()[1]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert f"Job {name} goes on. The same command watches it again." in rest
    submitted(cluster, "ingest", config, "--run-dir", str(tmp_path / "run"), "--set", "limit=3")


def test_a_wrong_token_and_a_wrong_address_are_told(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    arguments = ("ingest", str(setting(tmp_path, data)), "--run-dir", str(tmp_path / "run"))
    other = tmp_path / "token"
    other.write_text("0" * 64)
    refused = cluster.run(submit(*arguments), RAY_AUTH_TOKEN_PATH=str(other))
    assert (refused.returncode, "refuses the token (401)" in refused.stderr) == (1, True), refused.stderr
    assert "0" * 64 not in refused.stderr
    nowhere = cluster.run([*submit(*arguments)[:-3], "--ray-address", "http://127.0.0.1:1"])
    assert (nowhere.returncode, "Cannot reach a Ray cluster at http://127.0.0.1:1" in nowhere.stderr) == (1, True)


def test_the_doctor_looks_at_the_cluster_from_inside(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    where = f"cluster.submit={{kind: ray, address: '{ADDRESS}'}}"
    config = ("doctor", str(setting(tmp_path, data)), "--run-dir", str(tmp_path / "run"), "--cluster", "--json")
    done = cluster.run(["prefopt", *config, "--set", where])
    assert done.returncode == 0, done.stderr[-3000:]
    checks = {check["name"]: check for check in json.loads(done.stdout.strip().splitlines()[-1])["checks"]}
    assert {check["state"] for check in checks.values()} == {"ok"}, checks
    assert list(checks) == ["job", "run directory", "store", "nodes", "node GPUs", "collectives"]
    assert checks["collectives"]["found"] == "2 nodes sum by gloo."
    assert checks["nodes"]["found"].startswith("2 with the same versions: prefopt ")
    assert list((tmp_path / "run" / "doctor").iterdir()) == []
