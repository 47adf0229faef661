"""The operator's rules for all kinds of KubeRay: those of jobs and clusters are prefopt's own, here are the others."""

import re
from collections.abc import Iterator
from typing import Any

from prefopt.platform.kubernetes.rules import cluster_problems, job_problems, name_problems, problems

Document = dict[str, Any]
_LONGEST = {"RayCluster": 63, "RayCronJob": 36}
"""Characters of a name."""
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def broken_rules(document: Document) -> list[str]:
    """What is wrong with a document of one of KubeRay's kinds; nothing if it may be applied."""
    kind, name, spec = document["kind"], document["metadata"]["name"], document["spec"]
    if kind == "RayJob":
        return problems(document)
    of_spec = cluster_problems(spec) if kind == "RayCluster" else _schedule(spec)
    return [*name_problems(name, _LONGEST[kind]), *of_spec]


def _schedule(spec: Document) -> Iterator[str]:
    yield from job_problems(spec["jobTemplate"])
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
