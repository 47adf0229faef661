"""What the operator would refuse, or silently never run, is refused before it is sent."""

from collections.abc import Callable
from typing import Any

import pytest

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.errors import ConfigError
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.manifest import ray_job
from prefopt.platform.kubernetes.rules import check, problems

Change = Callable[[dict[str, Any]], object]


def spec(**values: Any) -> Change:
    return lambda manifest: manifest["spec"].update(values)


def cluster(**values: Any) -> Change:
    return lambda manifest: manifest["spec"]["rayClusterSpec"].update(values)


def head(**values: Any) -> Change:
    return lambda manifest: manifest["spec"]["rayClusterSpec"]["headGroupSpec"].update(values)


def head_restarts(manifest: dict[str, Any]) -> None:
    pod = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    pod["restartPolicy"] = "Always"


def labelled(key: str, value: str) -> Change:
    return lambda manifest: manifest["metadata"]["labels"].update({key: value})


def named(name: str) -> Change:
    return lambda manifest: manifest["metadata"].update(name=name)


BREACHES: list[tuple[str, list[Change]]] = [
    ("48 characters", [named("a" * 48)]),
    ("no RFC 1035 label", [named("1-train")]),
    ("no RFC 1035 label", [named("train-")]),
    ("no RFC 1035 label", [named("Train")]),
    ("exactly one of", [lambda manifest: manifest["spec"].pop("rayClusterSpec")]),
    ("exactly one of", [spec(clusterSelector={"ray.io/cluster": "dev"})]),
    ("backoffLimit is negative", [spec(backoffLimit=-1)]),
    ("backoffLimit must be 0", [spec(backoffLimit=1, submissionMode="InteractiveMode")]),
    ("K8sjobMode does not exist", [spec(submissionMode="K8sjobMode")]),
    ("SidecarMode excludes submitterPodTemplate", [spec(submissionMode="SidecarMode")]),
    ("SidecarMode excludes submitterConfig", [spec(submissionMode="SidecarMode", submitterConfig={"backoffLimit": 1})]),
    ("SidecarMode needs a head", [spec(submissionMode="SidecarMode", submitterPodTemplate=None), head_restarts]),
    ("suspend needs", [spec(suspend=True, shutdownAfterJobFinishes=False)]),
    ("suspend excludes", [spec(suspend=True, clusterSelector={"ray.io/cluster": "dev"})]),
    ("ttlSecondsAfterFinished is negative", [spec(ttlSecondsAfterFinished=-1)]),
    ("ttlSecondsAfterFinished needs", [spec(shutdownAfterJobFinishes=False)]),
    ("activeDeadlineSeconds is not positive", [spec(activeDeadlineSeconds=0)]),
    ("preRunningDeadlineSeconds is not positive", [spec(preRunningDeadlineSeconds=0)]),
    ("deletionStrategy", [spec(deletionStrategy={"deletionRules": []})]),
    ("entrypoint is empty", [spec(entrypoint=" ")]),
    ("tokens of Kubernetes", [cluster(authOptions={"enableK8sTokenAuth": True})]),
    ("needs Ray 2.52.0", [cluster(rayVersion="2.51.1")]),
    ("needs Ray 2.52.0", [cluster(rayVersion="")]),
    ("restartPolicy Never", [cluster(enableInTreeAutoscaling=True), head_restarts]),
    ("both in rayStartParams", [head(resources={"CPU": "1"})]),
    ("labels in rayStartParams", [head(rayStartParams={"labels": "a=b"})]),
    ("head has no container", [head(template={"spec": {"containers": []}})]),
    ("not one that Kueue reads", [labelled("kueue.x-k8s.io/queue", "gpus")]),
    ("cannot be the value", [labelled("run", "two words")]),
    ("cannot be the key", [labelled("a run", "x")]),
]


@pytest.mark.parametrize(("words", "changes"), BREACHES)
def test_a_breach_is_named(words: str, changes: list[Change]) -> None:
    manifest = ray_job(Job("train", ("train", "c.yaml")), KubernetesConfig(kind="kubernetes"))
    assert problems(manifest) == []
    for change in changes:
        change(manifest)
    assert any(words in problem for problem in problems(manifest)), problems(manifest)


def test_all_breaches_are_told_at_once() -> None:
    manifest = ray_job(Job("Train", ("train", "c.yaml")), KubernetesConfig(kind="kubernetes"))
    spec(backoffLimit=-1)(manifest)
    with pytest.raises(ConfigError, match=r"RayJob Train would not run: 'Train' is no .*; backoffLimit is"):
        check(manifest)
