"""An API of Kubernetes that refuses, fails or is not there: what is said, and what is asked again."""

import os
import sys
from pathlib import Path

import pytest

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.errors import ConfigError
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes import api as kube
from prefopt.platform.kubernetes.rayjob import RayJobSubmitter
from tests.kit.kube_api import JOBS, NAMESPACE, KubeApi, write_kubeconfig
from tests.kit.rayjobs import CREATED, DONE, FAILED, JOB, NAME, Run, at_once, existing, watched


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [("POST", JOBS, "create"), ("GET", JOBS, "list"), ("DELETE", f"{JOBS}/{NAME}", "delete")],
)
def test_a_missing_permission_is_named(api: KubeApi, method: str, path: str, verb: str) -> None:
    said = f'rayjobs.ray.io is forbidden: User "system:serviceaccount:team:x" cannot {verb} resource "rayjobs"'
    api.refused[method, path] = (403, said)
    api.put(existing(**FAILED))
    words = str(Run().failure())
    assert f"Not allowed to {verb} rayjobs in namespace {NAMESPACE} (403)" in words
    assert "k8s/base" in words
    assert said in words


def test_a_quota_is_no_missing_permission(api: KubeApi) -> None:
    api.refused["POST", JOBS] = (403, 'rayjobs.ray.io "x" is forbidden: exceeded quota: count/rayjobs.ray.io=1')
    words = str(Run().failure())
    assert "exceeded quota" in words
    assert "k8s/base" not in words


def test_a_cluster_without_ray_jobs_is_named(api: KubeApi) -> None:
    api.refused["POST", JOBS] = (404, "the server could not find the requested resource")
    assert "KubeRay" in str(Run().failure())


def test_a_wrong_token_is_told_and_never_shown(api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(Path(os.environ["KUBECONFIG"]).read_text()).split("server: ")[1].split()[0]
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "old", address, token="an-old-one")))
    words = str(Run().failure())
    assert "does not know who asks to create rayjobs (401)" in words
    assert "an-old-one" not in words


def test_a_cluster_that_does_not_answer_is_named(api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "RETRIES", 1)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "away", "http://127.0.0.1:9")))
    assert "Cannot reach Kubernetes at http://127.0.0.1:9 to create rayjobs" in str(Run().failure())


def test_no_kubeconfig_is_a_wrong_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Set KUBECONFIG"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, lambda line: None)


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ConfigError, match=r"pip install 'prefopt\[kubeflow\]'"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, lambda line: None)


def test_a_cluster_that_goes_away_leaves_the_job_to_its_next_watcher(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "RETRIES", 0)
    run = Run()
    watched(api)
    api.refused["GET", JOBS] = (503, "the server is currently unable to handle the request")
    api.cut()
    assert str(run.failure()).endswith(f"RayJob {NAMESPACE}/{NAME} goes on: who submits it again watches it.")
    assert NAME in api.jobs
    api.refused.clear()
    again = Run()
    again.wait_for(f"RayJob {NAME} is there already, new: it is watched.")
    api.status(NAME, **DONE)
    again.end()
    assert again.error is None


def test_a_job_that_vanishes_before_it_can_be_watched_is_created(api: KubeApi) -> None:
    api.failing = [("POST", JOBS, 409)]
    at_once(api, **DONE)
    run = Run()
    run.end()
    assert run.error is None
    assert CREATED in run.told


def test_a_server_error_is_asked_again(api: KubeApi) -> None:
    api.failing = [("POST", JOBS, 503), ("GET", JOBS, 500)]
    at_once(api, **DONE)
    run = Run()
    run.end()
    assert run.error is None
    assert api.count("POST", JOBS) == 2


def test_a_job_that_could_never_run_is_not_sent(api: KubeApi) -> None:
    with pytest.raises(ConfigError, match="48 characters, 47 at most"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(Job("a" * 48, ("train",)), lambda line: None)
    assert api.count("POST", JOBS) == 0
