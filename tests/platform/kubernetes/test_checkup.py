"""What `prefopt doctor --cluster` finds: rights, queue, and a job that looks from inside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.doctor.report import Check
from prefopt.platform.checkup import Pipelines, check_queue, check_rights, check_up
from prefopt.platform.kubernetes.api import Kube
from tests.kit.data import small_config
from tests.kit.kube_api import QUEUES, REVIEWS, KubeApi


@pytest.fixture
def kube(api: KubeApi) -> Kube:
    return Kube()


def local_queue(**status: Any) -> dict[str, Any]:
    return {"kind": "LocalQueue", "metadata": {"name": "gpus"}, "status": status}


def active(state: str = "True", message: str = "") -> list[dict[str, str]]:
    return [{"type": "Active", "status": state, "message": message}]


def test_all_rights_of_a_component_are_asked_for(api: KubeApi, kube: Kube) -> None:
    assert check_rights(kube).state == "ok"
    asked = [request.body["spec"]["resourceAttributes"] for request in api.asked if request.path == REVIEWS]
    assert {(one["verb"], one["group"], one["resource"], one.get("subresource")) for one in asked} == {
        *((verb, "ray.io", "rayjobs", None) for verb in ("create", "get", "list", "watch", "delete")),
        *((verb, "", "pods", None) for verb in ("get", "list", "watch")),
        ("get", "", "pods", "log"),
    }


def test_missing_rights_are_named(api: KubeApi, kube: Kube) -> None:
    api.denied = {"delete ray.io/rayjobs", "get /pods/log"}
    found = check_rights(kube)
    assert (found.state, found.found) == (
        "problem",
        "Not allowed in namespace team: delete rayjobs, get pods/log.",
    )
    assert "k8s/base" in found.advice


def test_an_account_that_may_not_even_ask_is_told(api: KubeApi, kube: Kube) -> None:
    api.refused["POST", REVIEWS] = (401, "Unauthorized")
    found = check_rights(kube)
    assert found.state == "problem"
    assert "(401)" in found.found


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        ({"conditions": active(), "admittedWorkloads": 2}, "ok", "LocalQueue gpus: 2 admitted, 0 waiting."),
        ({"conditions": active(), "pendingWorkloads": 3}, "warning", "0 admitted, 3 waiting"),
        ({"conditions": active("False", "the ClusterQueue is gone")}, "problem", "no jobs: the ClusterQueue is gone."),
        ({}, "problem", "takes no jobs: it says nothing of itself."),
    ],
)
def test_a_queue_is_asked_whether_it_takes_jobs(
    api: KubeApi, kube: Kube, status: dict[str, Any], state: str, said: str
) -> None:
    api.queues["gpus"] = local_queue(**status)
    found = check_queue(kube, "gpus")
    assert found.state == state
    assert said in found.found


def test_a_queue_in_use_says_how_much(api: KubeApi, kube: Kube) -> None:
    usage = [{"name": "h200", "resources": [{"name": "nvidia.com/gpu", "total": "8"}]}]
    api.queues["gpus"] = local_queue(conditions=active(), flavorsUsage=usage)
    assert check_queue(kube, "gpus").found.endswith("; in use: nvidia.com/gpu 8.")


def test_a_missing_queue_is_named(kube: Kube) -> None:
    found = check_queue(kube, "gpus")
    assert found.state == "problem"
    assert found.found.startswith("There is no LocalQueue gpus in namespace team")


def test_a_queue_that_may_not_be_looked_at_is_no_problem(api: KubeApi, kube: Kube) -> None:
    api.refused["GET", f"{QUEUES}/gpus"] = (403, 'localqueues "gpus" is forbidden: cannot get')
    found = check_queue(kube, "gpus")
    assert (found.state, "may not look at LocalQueue gpus" in found.found) == ("warning", True)


def look(config: RunConfig, place: Path, host: str | None = None) -> dict[str, Check]:
    pipelines = Pipelines(host) if host else None
    found: Iterator[Check] = check_up(config, str(place / "run"), pipelines, lambda line: None)
    return {check.name: check for check in found}


def config(place: Path, **submit: Any) -> RunConfig:
    return small_config(place, [{"kind": "world", "pairs": 4}], cluster={"engine": "ray", "submit": submit})


def test_without_a_cluster_it_is_said(tmp_path: Path) -> None:
    found = look(config(tmp_path, kind="here"), tmp_path)
    assert list(found) == ["cluster"]
    assert found["cluster"].state == "problem"


def test_a_failing_job_is_a_finding(api: KubeApi, tmp_path: Path) -> None:
    api.on_create = lambda job: api.status(
        job["metadata"]["name"], jobDeploymentStatus="Failed", jobStatus="FAILED", message="no nodes"
    )
    found = look(config(tmp_path, kind="kubernetes"), tmp_path)
    assert [(name, check.state) for name, check in found.items()] == [("rights", "ok"), ("job", "problem")]
    assert "no nodes" in found["job"].found


def test_a_job_that_leaves_no_findings_saw_another_storage(api: KubeApi, tmp_path: Path) -> None:
    api.on_create = lambda job: api.status(
        job["metadata"]["name"], jobDeploymentStatus="Complete", jobStatus="SUCCEEDED"
    )
    found = look(config(tmp_path, kind="kubernetes"), tmp_path)
    assert found["job"].state == "problem"
    assert "the same storage" in found["job"].advice


def test_a_host_of_pipelines_that_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    found = look(config(tmp_path, kind="here"), tmp_path, "http://127.0.0.1:1")
    assert found["pipelines"].state == "problem"
    assert "Cannot reach Kubeflow Pipelines at http://127.0.0.1:1" in found["pipelines"].found
