"""The schema of a custom resource, as JSON Schema: what a cluster that refuses unknown fields takes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "PREFOPT_TEST_DATA"
KUBERAY = "kuberay-v1.7.0"


def kuberay_schema(kind: str) -> dict[str, Any]:
    """Of a kind of KubeRay, from the directory that PREFOPT_TEST_DATA names; the test is skipped without it."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        pytest.skip(f"{VARIABLE} names no directory with the schemas of {KUBERAY}")
    crd = json.loads(Path(directory, KUBERAY, f"{kind}.json").read_text())
    schema: dict[str, Any] = _closed(crd["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {
        key: {name: _closed(part) for name, part in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-")
    }
    if "properties" in closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.pop("nullable", False):
        closed["type"] = [closed["type"], "null"]
    return closed
