"""What KubeRay's operator refuses once the cluster has accepted it, and what nobody refuses and yet is wrong.

Of RayCluster, RayJob and RayCronJob, as the validation of KubeRay 1.7.0 has it.
"""

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
LONGEST = {"RayCluster": 63, "RayJob": 47, "RayCronJob": 36}
"""Characters of a name."""
MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_STARTED = ("num-cpus", "num-gpus", "memory", "resources")


def broken_rules(document: Document) -> list[str]:
    """What is wrong with a document of one of KubeRay's kinds; nothing if it may be applied."""
    kind, name, spec = document["kind"], document["metadata"]["name"], document["spec"]
    found = []
    if len(name) > LONGEST[kind]:
        found.append(f"name: longer than {LONGEST[kind]} characters")
    if not _LABEL.fullmatch(name):
        found.append("name: not an RFC 1035 label")
    match kind:
        case "RayCluster":
            found += _cluster(spec)
        case "RayJob":
            found += _job(spec)
        case "RayCronJob":
            found += _schedule(spec)
            found += _job(spec["jobTemplate"])
    return found


def _schedule(spec: Document) -> Iterator[str]:
    schedule = spec["schedule"]
    if "TZ=" in schedule:
        yield "schedule: the zone belongs into timeZone"
        return
    fields = schedule.split()
    if len(fields) != len(_CRON_RANGES):
        yield f"schedule: {len(fields)} fields, and not {len(_CRON_RANGES)}"
        return
    for field, (low, high) in zip(fields, _CRON_RANGES, strict=True):
        for part in field.split(","):
            numbers = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
            if not numbers or not all(low <= int(number) <= high for number in numbers.groups()[:2] if number):
                yield f"schedule: {field} is not a field between {low} and {high}"


def _job(spec: Document) -> Iterator[str]:
    cluster, selector = spec.get("rayClusterSpec"), spec.get("clusterSelector")
    mode, suspended = spec.get("submissionMode", "K8sJobMode"), spec.get("suspend", False)
    shutdown, ttl = spec.get("shutdownAfterJobFinishes", False), spec.get("ttlSecondsAfterFinished", 0)
    if not cluster and not selector:
        yield "one of rayClusterSpec and clusterSelector is needed"
    if cluster and selector:
        yield "clusterSelector silently wins over rayClusterSpec"
    if mode not in MODES:
        yield f"submissionMode: {mode} submits nothing"
    backoff = spec.get("backoffLimit", 0)
    if backoff < 0 or (backoff and (selector or mode == "InteractiveMode")):
        yield "backoffLimit: negative, or not 0 with clusterSelector or InteractiveMode"
    if mode == "SidecarMode":
        for excluded in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if excluded in spec:
                yield f"{excluded}: not with SidecarMode"
        if cluster and _restarts(cluster["headGroupSpec"]):
            yield "headGroupSpec: restartPolicy must be Never with SidecarMode"
    if suspended and not shutdown:
        yield "suspend: needs shutdownAfterJobFinishes"
    if suspended and selector:
        yield "suspend: not with clusterSelector"
    if ttl < 0 or (ttl and not shutdown):
        yield "ttlSecondsAfterFinished: negative, or without shutdownAfterJobFinishes"
    for deadline in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(deadline, 1) <= 0:
            yield f"{deadline}: not positive"
    if "deletionStrategy" in spec:
        yield "deletionStrategy: needs a feature gate of the operator"
    if cluster:
        if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
            yield "authOptions.enableK8sTokenAuth: not for a RayJob"
        yield from _cluster(cluster)


def _cluster(spec: Document) -> Iterator[str]:
    head, groups = spec["headGroupSpec"], spec.get("workerGroupSpecs", [])
    auth, options = spec.get("authOptions", {}), spec.get("autoscalerOptions", {})
    if auth.get("mode") == "token" and _version(spec.get("rayVersion")) < (2, 52):
        yield "authOptions: token needs a rayVersion from 2.52.0 on"
    if options and not spec.get("enableInTreeAutoscaling"):
        yield "autoscalerOptions: without effect, since enableInTreeAutoscaling is not set"
    if len({group["groupName"] for group in groups}) < len(groups):
        yield "workerGroupSpecs: two groups of one name"
    for name, group in [("head", head), *((group["groupName"], group) for group in groups)]:
        params = group.get("rayStartParams", {})
        if not group["template"]["spec"].get("containers"):
            yield f"{name}: no container"
        if group.get("resources") and any(key in params for key in _STARTED):
            yield f"{name}: resources both in rayStartParams and in resources"
        if "labels" in params:
            yield f"{name}: labels in rayStartParams"
        if any(not isinstance(value, str) for value in params.values()):
            yield f"{name}: a rayStartParam is not a string"
        if options.get("version") == "v2" and _restarts(group):
            yield f"{name}: restartPolicy must be Never with autoscaler v2"
    for group in groups:
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 2**31 - 1):
            yield f"{group['groupName']}: replicas are outside minReplicas and maxReplicas"


def _restarts(group: Document) -> bool:
    return group["template"]["spec"].get("restartPolicy", "Never") != "Never"


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if text and re.fullmatch(r"\d+(\.\d+)*", text) else ()
