"""What the KubeRay operator refuses only after the cluster has taken a RayJob, and mistakes that nobody refuses.

The operator's rules are those of KubeRay 1.7 (`ray-operator/controllers/ray/utils/validation.go`). A breach of one
would end as `ValidationFailed`; of the others, as a job that never starts or that no queue sees.
"""

import re
from collections.abc import Iterator
from typing import Any

from packaging.version import InvalidVersion, Version

from prefopt.errors import ConfigError
from prefopt.platform.kubernetes.manifest import PRIORITY_LABEL, QUEUE_LABEL

MOST_CHARACTERS = 47
"""Of a RayJob's name. The operator adds to it for the cluster, its services and its pods."""
SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
FIRST_RAY_WITH_TOKENS = Version("2.52.0")
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL_PART}")
_LABEL_VALUE = re.compile(rf"({_LABEL_PART})?")
_OF_KUEUE = (QUEUE_LABEL, PRIORITY_LABEL)

_Object = dict[str, Any]


def check(manifest: _Object) -> None:
    """Raise ConfigError, which names every rule that a RayJob breaks."""
    if found := problems(manifest):
        name = manifest.get("metadata", {}).get("name", "")
        raise ConfigError(f"RayJob {name} would not run: {'; '.join(found)}.")


def problems(manifest: _Object) -> list[str]:
    """What is wrong with a RayJob that fits its schema, a phrase for each rule; empty if all is well."""
    metadata = manifest.get("metadata", {})
    return [
        *name_problems(metadata.get("name", ""), MOST_CHARACTERS),
        *_of_labels(metadata.get("labels", {})),
        *job_problems(manifest.get("spec", {})),
    ]


def job_problems(spec: _Object) -> Iterator[str]:
    """What is wrong with the spec of a RayJob."""
    yield from _of_submission(spec)
    yield from _of_times(spec)
    if "rayClusterSpec" in spec:
        yield from cluster_problems(spec["rayClusterSpec"])
        if spec["rayClusterSpec"].get("authOptions", {}).get("enableK8sTokenAuth"):
            yield "enableK8sTokenAuth, authentication by tokens of Kubernetes, is not for a RayJob"


def name_problems(name: str, most: int) -> Iterator[str]:
    """What is wrong with the name of one of KubeRay's objects, which may have so many characters."""
    if len(name) > most:
        yield f"its name has {len(name)} characters, {most} at most are allowed"
    if not _NAME.fullmatch(name):
        yield f"{name!r} is no RFC 1035 label: small letters, digits and dashes, a letter first"


def _of_labels(labels: dict[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield f"{key!r} cannot be the key of a label"
        if not _LABEL_VALUE.fullmatch(value):
            yield f"{value!r} cannot be the value of label {key}"
        if "kueue" in key and key not in _OF_KUEUE:
            yield f"label {key} is not one that Kueue reads: {', '.join(_OF_KUEUE)}"


def _of_submission(spec: _Object) -> Iterator[str]:
    mode, selected = spec.get("submissionMode", "K8sJobMode"), bool(spec.get("clusterSelector"))
    if mode not in SUBMISSION_MODES:
        yield f"submissionMode {mode} does not exist, and nothing would ever be submitted"
    if selected == ("rayClusterSpec" in spec):
        yield "it has exactly one of rayClusterSpec and clusterSelector"
    if mode != "InteractiveMode" and not spec.get("entrypoint", "").strip():
        yield "entrypoint is empty"
    limit = spec.get("backoffLimit", 0)
    if limit < 0:
        yield "backoffLimit is negative"
    if limit > 0 and (selected or mode == "InteractiveMode"):
        yield "backoffLimit must be 0 with clusterSelector or InteractiveMode"
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(key):
                yield f"SidecarMode excludes {key}"
        if _restart_policy(spec.get("rayClusterSpec", {}).get("headGroupSpec", {})) not in (None, "Never"):
            yield "SidecarMode needs a head whose restartPolicy is Never"
    if spec.get("suspend") and selected:
        yield "suspend excludes clusterSelector"


def _of_times(spec: _Object) -> Iterator[str]:
    ends, ttl = spec.get("shutdownAfterJobFinishes", False), spec.get("ttlSecondsAfterFinished", 0)
    if spec.get("suspend") and not ends:
        yield "suspend needs shutdownAfterJobFinishes"
    if ttl < 0:
        yield "ttlSecondsAfterFinished is negative"
    if ttl > 0 and not ends:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(key, 1) <= 0:
            yield f"{key} is not positive"
    if spec.get("deletionStrategy"):
        yield "deletionStrategy needs a feature gate of the operator, and we count on shutdownAfterJobFinishes"


def cluster_problems(spec: _Object) -> Iterator[str]:
    """What is wrong with the spec of a RayCluster."""
    head, workers = spec.get("headGroupSpec", {}), spec.get("workerGroupSpecs", [])
    grows = spec.get("enableInTreeAutoscaling", False)
    if spec.get("autoscalerOptions") and not grows:
        yield "autoscalerOptions are without effect: enableInTreeAutoscaling is not set"
    if len({group.get("groupName") for group in workers}) < len(workers):
        yield "two groups of workerGroupSpecs have one name"
    for name, group in [("head", head), *((group.get("groupName", "workers"), group) for group in workers)]:
        yield from _of_group(name, group, grows)
    for group in workers:
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 2**31 - 1):
            yield f"replicas of {group.get('groupName')} are outside minReplicas and maxReplicas"
    yield from _of_authentication(spec)


def _of_group(name: str, group: _Object, grows: bool) -> Iterator[str]:
    if not group.get("template", {}).get("spec", {}).get("containers"):
        yield f"{name} has no container"
    started = group.get("rayStartParams", {})
    if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(started):
        yield f"{name} has resources both in rayStartParams and under resources"
    if "labels" in started:
        yield f"{name} has labels in rayStartParams"
    if any(not isinstance(value, str) for value in started.values()):
        yield f"a value in rayStartParams of {name} is not a string"
    if group.get("suspend"):
        yield f"{name} is a suspended group, which needs a feature gate of the operator"
    if grows and _restart_policy(group) not in (None, "Never"):
        yield f"{name} must have restartPolicy Never in a cluster that grows"


def _of_authentication(cluster: _Object) -> Iterator[str]:
    options, ray = cluster.get("authOptions", {}), cluster.get("rayVersion", "")
    if options.get("mode") == "token":
        try:
            known = Version(ray) >= FIRST_RAY_WITH_TOKENS
        except InvalidVersion:
            known = False
        if not known:
            yield f"authOptions.mode token needs Ray {FIRST_RAY_WITH_TOKENS} or later, and rayVersion is {ray!r}"


def _restart_policy(group: _Object) -> str | None:
    policy: str | None = group.get("template", {}).get("spec", {}).get("restartPolicy")
    return policy or None
