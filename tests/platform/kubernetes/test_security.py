"""RayJobs that prefopt submits live by the rules of k8s/: its checks of pods, its network, what it promises of them."""

from typing import Any

import pytest

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.manifest import ray_job
from tests.k8s import test_security as checks
from tests.kit.dockerfile import read_dockerfile
from tests.kit.kustomize import Document
from tests.kit.manifests import built

OF_THE_OPERATOR = {
    "submitter": {"batch.kubernetes.io/job-name": "nightly"},
    "head": {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"},
    "workers": {"ray.io/is-ray-node": "yes", "ray.io/node-type": "worker"},
}
"""Labels that pods bear besides those of their templates."""
FIXED = {"service_account": "prefopt-ray", "workers": {"number": 2, "gpus": 8}}
GROWS = {**FIXED, "preemptible": {"most": 8, "autoscaler_account": "prefopt-autoscaler"}}


def submitted(stage: str, values: dict[str, Any]) -> Document:
    """As a stage is submitted."""
    labels = {"app.kubernetes.io/component": stage, "prefopt.io/pipeline": "nightly"}
    return ray_job(
        Job("nightly", (stage, "s3://bucket/run.yaml"), labels), KubernetesConfig(kind="kubernetes", **values)
    )


PROBE = ray_job(Job("probe", ("doctor", "s3://bucket/run.yaml")), KubernetesConfig(kind="kubernetes", **FIXED))
MANIFESTS = [submitted("train", FIXED), submitted("score", GROWS), PROBE]


def templates(manifest: Document) -> dict[str, Document]:
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    return {
        "submitter": spec["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        "workers": cluster["workerGroupSpecs"][0]["template"],
    }


PODS = [(name, pod) for manifest in MANIFESTS for name, pod in templates(manifest).items()]


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_a_submitted_pod_is_confined_as_all_others(name: str, pod: Document) -> None:
    checks.test_a_pod_is_confined(name, pod)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_workers_never_have_the_rights_of_a_head_that_scales(manifest: Document) -> None:
    checks.test_what_the_operator_adds_to_a_head_is_confined_too("submitted", manifest["spec"]["rayClusterSpec"])


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_no_secret_is_written_down(manifest: Document) -> None:
    checks.test_no_secret_is_written_down("submitted", manifest)


@pytest.mark.parametrize(("name", "pod"), [pair for pair in PODS if pair[0] != "submitter"])
def test_prometheus_finds_every_ray_node(name: str, pod: Document) -> None:
    checks.test_prometheus_finds_every_ray_node(name, pod)


def chosen(selector: Document, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert {one["operator"] for one in expressions} <= {"Exists"}
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items() and all(one["key"] in labels for one in expressions)


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_the_network_lets_a_pod_do_its_work_and_no_more(name: str, pod: Document) -> None:
    labels = {**pod["metadata"]["labels"], **OF_THE_OPERATOR[name]}
    found = {policy for policy, spec in checks.policies().items() if chosen(spec["podSelector"], labels)}
    own = {"submitter": "submitter", "head": "ray", "workers": "ray"}
    scales = {"autoscaler"} if "prefopt.io/scales" in labels else set()
    assert found == {"default-deny", "names", own[name]} | scales


def test_only_a_head_that_scales_is_marked_as_one_that_calls_kubernetes() -> None:
    marked = [name for name, pod in PODS if pod["metadata"]["labels"].get("prefopt.io/scales") == "true"]
    calling = [name for name, pod in PODS if pod["spec"]["automountServiceAccountToken"]]
    assert marked == calling == ["head"]


@pytest.mark.parametrize("stage", ["train", "score"])
def test_pods_are_found_by_the_labels_and_annotations_of_applied_jobs(stage: str) -> None:
    (applied,) = [d for d in built("gpu/jobs") if d["kind"] == "RayJob" and d["metadata"]["name"] == f"prefopt-{stage}"]
    ours = submitted(stage, FIXED)
    assert applied["metadata"]["labels"].items() <= ours["metadata"]["labels"].items()
    for name, pod in templates(ours).items():
        theirs = templates(applied)[name]["metadata"]
        assert theirs["labels"].items() <= pod["metadata"]["labels"].items(), name
        assert theirs.get("annotations") == pod["metadata"].get("annotations"), name
        assert pod["metadata"]["labels"]["prefopt.io/pipeline"] == "nightly"


def test_processes_run_as_the_user_of_the_image() -> None:
    *_, image = read_dockerfile().values()
    (user,) = image.values("USER")
    for name, pod in templates(submitted("train", {})).items():
        context = pod["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user, name
        assert context["fsGroup"] == context["runAsGroup"]
