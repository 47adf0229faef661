"""A cluster for the tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.kube_api import KubeApi, kube_api, write_kubeconfig


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    """An API of Kubernetes on loopback, to which the kubeconfig leads."""
    for name in ("POD_NAME", "POD_UID", "KFP_POD_NAME", "KFP_POD_UID", "POD_NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with kube_api() as (cluster, address):
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", address)))
        yield cluster
