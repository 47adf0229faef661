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
    metadata, spec = manifest.get("metadata", {}), manifest.get("spec", {})
    found = [
        *_of_name(metadata.get("name", "")),
        *_of_labels(metadata.get("labels", {})),
        *_of_submission(spec),
        *_of_times(spec),
    ]
    if "rayClusterSpec" in spec:
        found += _of_cluster(spec["rayClusterSpec"])
    return found


def _of_name(name: str) -> Iterator[str]:
    if len(name) > MOST_CHARACTERS:
        yield f"its name has {len(name)} characters, {MOST_CHARACTERS} at most are allowed"
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


def _of_cluster(cluster: _Object) -> Iterator[str]:
    head, workers = cluster.get("headGroupSpec", {}), cluster.get("workerGroupSpecs", [])
    grows = cluster.get("enableInTreeAutoscaling", False)
    for name, group in [("head", head), *((group.get("groupName", "workers"), group) for group in workers)]:
        if not group.get("template", {}).get("spec", {}).get("containers"):
            yield f"{name} has no container"
        started = group.get("rayStartParams", {})
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(started):
            yield f"{name} has resources both in rayStartParams and under resources"
        if "labels" in started:
            yield f"{name} has labels in rayStartParams"
        if group.get("suspend"):
            yield f"{name} is a suspended group, which needs a feature gate of the operator"
        if grows and _restart_policy(group) not in (None, "Never"):
            yield f"{name} must have restartPolicy Never in a cluster that grows"
    yield from _of_authentication(cluster)


def _of_authentication(cluster: _Object) -> Iterator[str]:
    options, ray = cluster.get("authOptions", {}), cluster.get("rayVersion", "")
    if options.get("enableK8sTokenAuth"):
        yield "authentication by tokens of Kubernetes is not for a RayJob"
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
