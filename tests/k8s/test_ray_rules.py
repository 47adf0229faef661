"""What the operator refuses, or nobody: on the manifests, and on manifests that break each rule."""

import copy
from collections.abc import Callable

import pytest

from tests.kit.kustomize import Document
from tests.kit.manifests import RAY, built, of_kind, ray_jobs
from tests.kit.ray_rules import broken_rules

Change = Callable[[Document], object]


@pytest.mark.parametrize(("name", "document"), of_kind(*RAY), ids=lambda value: value if isinstance(value, str) else "")
def test_a_manifest_keeps_the_rules(name: str, document: Document) -> None:
    assert broken_rules(document) == []


BROKEN: list[tuple[str, str, Change]] = [
    ("RayJob", "longer than 47", lambda d: d["metadata"].update(name="a" * 48)),
    ("RayCronJob", "longer than 36", lambda d: d["metadata"].update(name="a" * 37)),
    ("RayJob", "RFC 1035", lambda d: d["metadata"].update(name="1-job")),
    ("RayJob", "is needed", lambda d: d["spec"].pop("rayClusterSpec")),
    ("RayJob", "silently wins", lambda d: d["spec"].update(clusterSelector={"ray.io/cluster": "prefopt"})),
    ("RayJob", "submits nothing", lambda d: d["spec"].update(submissionMode="K8SJobMode")),
    ("RayJob", "backoffLimit", lambda d: d["spec"].update(backoffLimit=-1)),
    ("RayJob", "backoffLimit", lambda d: d["spec"].update(backoffLimit=1, submissionMode="InteractiveMode")),
    ("RayJob", "submitterPodTemplate", lambda d: d["spec"].update(submissionMode="SidecarMode")),
    ("RayJob", "suspend", lambda d: d["spec"].update(suspend=True, shutdownAfterJobFinishes=False)),
    ("RayJob", "ttlSecondsAfterFinished", lambda d: d["spec"].update(shutdownAfterJobFinishes=False)),
    ("RayJob", "ttlSecondsAfterFinished", lambda d: d["spec"].update(ttlSecondsAfterFinished=-1)),
    ("RayJob", "activeDeadlineSeconds", lambda d: d["spec"].update(activeDeadlineSeconds=0)),
    ("RayJob", "preRunningDeadlineSeconds", lambda d: d["spec"].update(preRunningDeadlineSeconds=0)),
    ("RayJob", "deletionStrategy", lambda d: d["spec"].update(deletionStrategy={"deletionRules": []})),
    (
        "RayJob",
        "enableK8sTokenAuth",
        lambda d: d["spec"]["rayClusterSpec"]["authOptions"].update(enableK8sTokenAuth=True),
    ),
    ("RayJob", "2.52.0", lambda d: d["spec"]["rayClusterSpec"].update(rayVersion="2.51.1")),
    ("RayJob", "2.52.0", lambda d: d["spec"]["rayClusterSpec"].pop("rayVersion")),
    ("RayJob", "not a string", lambda d: d["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update(port=1)),
    ("RayJob", "labels", lambda d: d["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update(labels="a=b")),
    ("RayJob", "both", lambda d: d["spec"]["rayClusterSpec"]["headGroupSpec"].update(resources={"CPU": "1"})),
    ("RayJob", "no container", lambda d: _group(d["spec"]["rayClusterSpec"])["template"]["spec"].update(containers=[])),
    ("RayJob", "outside", lambda d: _group(d["spec"]["rayClusterSpec"]).update(replicas=9)),
    ("RayCluster", "restartPolicy", lambda d: _group(d["spec"])["template"]["spec"].update(restartPolicy="Always")),
    ("RayCluster", "without effect", lambda d: d["spec"].pop("enableInTreeAutoscaling")),
    ("RayCluster", "two groups", lambda d: d["spec"]["workerGroupSpecs"].append(_group(d["spec"]))),
    ("RayCronJob", "timeZone", lambda d: d["spec"].update(schedule="TZ=UTC 0 2 * * *")),
    ("RayCronJob", "6 fields", lambda d: d["spec"].update(schedule="0 0 2 * * *")),
    ("RayCronJob", "field between", lambda d: d["spec"].update(schedule="0 24 * * *")),
    ("RayCronJob", "submits nothing", lambda d: d["spec"]["jobTemplate"].update(submissionMode="Job")),
]


def _group(cluster: Document) -> Document:
    return cluster["workerGroupSpecs"][0]


@pytest.mark.parametrize(("kind", "said", "change"), BROKEN)
def test_a_broken_rule_is_found(kind: str, said: str, change: Change) -> None:
    document = copy.deepcopy(of_kind(kind)[0][1])
    change(document)
    assert any(said in rule for rule in broken_rules(document)), broken_rules(document)


@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/15 0-6 1,15 * 1-5", "0 0 * * 7"])
def test_an_ordinary_schedule_is_taken(schedule: str) -> None:
    document = copy.deepcopy(of_kind("RayCronJob")[0][1])
    document["spec"]["schedule"] = schedule
    assert broken_rules(document) == []


@pytest.mark.parametrize(("name", "job"), ray_jobs(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_job_cleans_up_and_only_one_layer_tries_again(name: str, job: Document) -> None:
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > job["preRunningDeadlineSeconds"] > 0
    assert job["backoffLimit"] == 0
    assert "suspend" not in job, "Kueue owns it"


def test_every_job_of_the_kueue_overlay_is_queued_and_nothing_holds_quota() -> None:
    local = {d["metadata"]["name"] for d in built("kueue") if d["kind"] == "LocalQueue"}
    jobs = [d for d in built("kueue/jobs") if d["kind"] == "RayJob"]
    assert jobs
    assert {d["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] for d in jobs} == local
    assert local == {"default"}, "the nights' jobs have no label, and go where Kueue sends those"
    assert not [d for d in built("kueue") if d["kind"] in ("RayCluster", "PodDisruptionBudget")]
    for document in jobs:
        assert not document["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling")


def test_other_overlays_name_no_queue() -> None:
    for place in ("cpu-laptop", "gpu", "cpu-laptop/jobs", "gpu/jobs"):
        assert not [d for d in built(place) if any("kueue" in key for key in d["metadata"].get("labels", {}))]
