"""The manifests of k8s/, built, and the pods that will come of them."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kit.kustomize import Document, build

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("cpu-laptop", "gpu", "kueue")
BUILDS = tuple(place for overlay in OVERLAYS for place in (overlay, f"{overlay}/jobs"))
"""What a user applies: an overlay sets up, its jobs are the stages."""
RAY = ("RayCluster", "RayJob", "RayCronJob")
KUEUE = ("LocalQueue", "ClusterQueue", "ResourceFlavor")


@functools.cache
def built(place: str) -> list[Document]:
    """The documents of what a user applies. Do not change them."""
    return build(K8S / "overlays" / place)


def everything() -> list[tuple[str, Document]]:
    """All documents of all builds, with names for tests."""
    return [(f"{place}/{d['kind']}/{d['metadata']['name']}", d) for place in BUILDS for d in built(place)]


def of_kind(*kinds: str) -> list[tuple[str, Document]]:
    """Those of some kinds."""
    return [(name, document) for name, document in everything() if document["kind"] in kinds]


def pods() -> list[tuple[str, Document]]:
    """The pod templates of all documents, with names for tests."""
    return [(f"{name}{at}", pod) for name, document in everything() for at, pod in _templates(document, "")]


def ray_clusters() -> list[tuple[str, Document]]:
    """The cluster specs of all documents."""
    found = []
    for name, document in of_kind(*RAY):
        spec = document["spec"]
        spec = spec.get("jobTemplate", spec)
        found.append((name, spec.get("rayClusterSpec", spec)))
    return found


def ray_jobs() -> list[tuple[str, Document]]:
    """The job specs of all documents, those of cron jobs as well."""
    return [(name, d["spec"].get("jobTemplate", d["spec"])) for name, d in of_kind("RayJob", "RayCronJob")]


def _templates(node: Any, at: str) -> Iterator[tuple[str, Document]]:
    if isinstance(node, dict):
        if "metadata" in node and "containers" in (node.get("spec") or {}):
            yield at, node
            return
        for key, value in node.items():
            yield from _templates(value, f"{at}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _templates(value, f"{at}/{index}")
