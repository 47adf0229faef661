"""The builder of the tests builds what kustomize builds, and refuses what it does not know."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kit.kustomize import build
from tests.kit.manifests import BUILDS, K8S, built


@pytest.mark.parametrize("place", BUILDS)
def test_the_builder_agrees_with_kustomize(place: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: nothing to compare the tests' own builder with")
    command = ["kubectl", "kustomize", str(K8S / "overlays" / place)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    theirs, ours = [
        sorted(json.dumps(d, sort_keys=True) for d in ds) for ds in (yaml.safe_load_all(made), built(place))
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    "tree",
    [
        "namespace: other",
        "components: [x]",
        "configMapGenerator: [{name: x, namespace: y, files: [run.yaml]}]",
        "labels: [{pairs: {a: b}, includeSelectors: true}]",
        "resources: [object.yaml]\npatches: [{target: {kind: Pod}, patch: '[]'}]",
        "resources: [object.yaml]\npatches: [{target: {kind: ConfigMap}, patch: '{data: {a: b}}'}]",
        "resources: [object.yaml, object.yaml]",
    ],
)
def test_what_the_builder_does_not_know_is_refused(tmp_path: Path, tree: str) -> None:
    (tmp_path / "kustomization.yaml").write_text(tree)
    (tmp_path / "object.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}")
    with pytest.raises(ValueError, match=r"know|two documents|no target"):
        build(tmp_path)
