"""Strict JSON Schemas of KubeRay's kinds, from the openAPIV3Schema of its custom resource definitions."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

KUBERAY = "kuberay-v1.7.0"
"""The directory of the schemas, below PREFOPT_TEST_DATA."""
_INTEGER_OR_STRING = {"type": ["integer", "string"]}


def ray_validator(kind: str) -> jsonschema.protocols.Validator:
    """The validator of RayCluster, RayJob or RayCronJob. The test is skipped where PREFOPT_TEST_DATA is not set."""
    place = os.environ.get("PREFOPT_TEST_DATA")
    if not place:
        pytest.skip(f"PREFOPT_TEST_DATA is not set: nothing to check {kind} against ({KUBERAY}/{kind}.json)")
    return _validator(Path(place, KUBERAY, f"{kind}.json"))


@functools.cache
def _validator(path: Path) -> jsonschema.protocols.Validator:
    schema = strict(json.loads(path.read_text())["openAPIV3Schema"])
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return jsonschema.Draft202012Validator(schema)


def strict(node: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an OpenAPI schema: objects with listed properties are closed, but for metadata."""
    if node.get("x-kubernetes-int-or-string"):
        return dict(_INTEGER_OR_STRING)
    made = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-") and key != "nullable"}
    if node.get("nullable") and isinstance(node.get("type"), str):
        made["type"] = [node["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    if "properties" in node:
        made["properties"] = {name: strict(child) for name, child in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = strict(made[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in made:
            made[key] = [strict(child) for child in made[key]]
    return made
