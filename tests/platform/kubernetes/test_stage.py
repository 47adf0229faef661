"""A component's stage as a RayJob: the stub's pods run the real command."""

import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, dump_config
from prefopt.errors import ConfigError
from prefopt.platform.jobs import JobError
from prefopt.platform.stage import check_fits, run_stage
from tests.kit.data import check_manifests, distinct, small_config, write_parquet
from tests.kit.kube_api import KubeApi

ROOT = Path(__file__).parents[3]


def config(place: Path, **branches: Any) -> RunConfig:
    write_parquet(place / "data.parquet", distinct(8))
    submit = {"kind": "kubernetes", "stages": ["ingest"]}
    tree = {"cluster": {"engine": "ray", "submit": submit, "address": "127.0.0.1:1"}, **branches}
    return small_config(place, [{"kind": "pickapic", "path": str(place / "data.parquet")}], **tree)


def ended(api: KubeApi, job: dict[str, Any]) -> None:
    api.status(job["metadata"]["name"], jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")


def test_the_job_does_the_stage_and_its_manifest_is_the_result(api: KubeApi, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def work(job: dict[str, Any]) -> None:
        commands.append(shlex.split(job["spec"]["entrypoint"]))
        command = [sys.executable, "-m", *commands[-1]]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=200)
        ended(api, job)

    api.on_create = lambda job: threading.Thread(target=work, args=(job,)).start()
    done = run_stage("ingest", dump_config(config(tmp_path)), str(tmp_path / "run"), tell=lambda line: None)
    (manifest,) = check_manifests(str(tmp_path / "run"))
    assert (done.skipped, done.manifest) == (False, manifest)
    (command,) = commands
    assert command[:2] == ["prefopt", "ingest"]
    assert Path(command[2]).is_relative_to(tmp_path / "run" / "configs")
    assert "address: null" in Path(command[2]).read_text(), "the job uses its own cluster"
    assert run_stage("ingest", dump_config(config(tmp_path)), str(tmp_path / "run")).skipped


def test_a_success_without_a_manifest_is_no_success(api: KubeApi, tmp_path: Path) -> None:
    api.on_create = lambda job: ended(api, job)
    with pytest.raises(JobError, match=r"ended well, but .* holds no whole output of ingest"):
        run_stage("ingest", dump_config(config(tmp_path)), str(tmp_path / "run"), tell=lambda line: None)


def test_places_that_pods_do_not_share_are_refused_before_anything_is_sent(api: KubeApi, tmp_path: Path) -> None:
    text = dump_config(config(tmp_path, store="runs/store"))
    with pytest.raises(ConfigError, match="store runs/store: pods need places that they all see"):
        run_stage("ingest", text, str(tmp_path / "run"))
    assert api.asked == []


@pytest.mark.parametrize(("workers", "gpus", "fits"), [(2, 1, True), (4, 2, True), (3, 1, False), (3, 0, True)])
def test_training_that_would_wait_for_ever_is_refused(tmp_path: Path, workers: int, gpus: int, fits: bool) -> None:
    submit = {"kind": "kubernetes", "workers": {"number": 2, "gpus": gpus if gpus else 1}}
    train = {"workers": workers, "global_batch": 12, "micro_batch": 1}
    made = config(tmp_path, cluster={"engine": "ray", "submit": submit, "worker_gpus": 1 if gpus else 0}, train=train)
    assert made.cluster.submit.kind == "kubernetes"
    if fits:
        check_fits(made, made.cluster.submit)
        return
    with pytest.raises(ConfigError, match=r"train.workers 3 x cluster.worker_gpus 1 are more than the 2 GPUs"):
        check_fits(made, made.cluster.submit)
