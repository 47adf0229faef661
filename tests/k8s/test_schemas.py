"""Every document is one that the API server takes: core kinds, KubeRay's, and the few of Kueue."""

import copy
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.kit.kustomize import Document
from tests.kit.manifests import KUEUE, RAY, built, everything, of_kind
from tests.kit.ray_schemas import ray_validator, strict

KUBERNETES = "1.34"
CORE = [pair for pair in everything() if pair[1]["kind"] not in (*RAY, *KUEUE)]


def ids(pair: object) -> str | None:
    return pair if isinstance(pair, str) else ""


@pytest.mark.parametrize(("name", "document"), CORE, ids=ids)
def test_a_core_document_is_valid(name: str, document: Document) -> None:
    # A kind without a schema raises, where the command line only warns.
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_mistyped_field_and_an_unknown_kind_are_found() -> None:
    wrong = copy.deepcopy(next(d for _, d in CORE if d["kind"] == "NetworkPolicy"))
    wrong["spec"]["podSelecter"] = wrong["spec"].pop("podSelector")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate(of_kind("RayJob")[0][1], KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "document"), of_kind(*RAY), ids=ids)
def test_a_ray_document_is_valid(name: str, document: Document) -> None:
    errors = ray_validator(document["kind"]).iter_errors(document)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("kind", RAY)
def test_a_misspelt_field_of_a_ray_document_is_found(kind: str) -> None:
    document = copy.deepcopy(of_kind(kind)[0][1])
    cluster = document["spec"].get("jobTemplate", document["spec"])
    cluster = cluster.get("rayClusterSpec", cluster)
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(jsonschema.ValidationError, match="resource"):
        ray_validator(kind).validate(document)


def test_a_strict_schema_closes_objects_and_keeps_quantities_open() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "note": {"type": "string", "nullable": True},
            "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    check = jsonschema.Draft202012Validator(strict(schema))
    for good in ({"size": 1, "note": None}, {"size": "1Gi"}, {"free": {"any": "thing"}}):
        assert check.is_valid(good)
    for bad in ({"sise": 1}, {"size": [1]}, {"note": 1}):
        assert not check.is_valid(bad)


FIELDS = {
    "LocalQueue": {"clusterQueue"},
    "ClusterQueue": {"namespaceSelector", "queueingStrategy", "preemption", "resourceGroups"},
    "ResourceFlavor": set(),
}


def test_the_queue_covers_whatever_a_job_asks_for() -> None:
    queue = {d["kind"]: d for d in built("kueue") if d["kind"] in KUEUE}
    assert queue.keys() == FIELDS.keys()
    for kind, document in queue.items():
        assert document["apiVersion"] == "kueue.x-k8s.io/v1beta2"
        assert document.get("spec", {}).keys() <= FIELDS[kind]
        assert ("namespace" in document["metadata"]) == (kind == "LocalQueue")
    assert queue["LocalQueue"]["spec"]["clusterQueue"] == queue["ClusterQueue"]["metadata"]["name"]
    (group,) = queue["ClusterQueue"]["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == queue["ResourceFlavor"]["metadata"]["name"]
    assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]
    asked = {
        resource
        for document in built("kueue/jobs")
        if document["kind"] == "RayJob"
        for resource in _requested(document["spec"])
    }
    assert asked <= set(group["coveredResources"])


def _requested(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = set(node["requests"]) if isinstance(node.get("requests"), dict) else set()
        return own.union(*(_requested(child) for child in node.values()))
    return set().union(*(_requested(child) for child in node)) if isinstance(node, list) else set()
