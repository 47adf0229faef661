"""Least rights: security contexts of every pod, accounts, network, and no secret in a manifest."""

import re
from typing import Any

import pytest
import yaml

from tests.kit.kustomize import Document
from tests.kit.manifests import BUILDS, K8S, RAY, built, everything, of_kind, pods, ray_clusters

RIGHTS = {
    ("ray.io", "rayjobs"): {"create", "get", "list", "watch", "delete"},
    ("", "pods"): {"get", "list", "watch"},
    ("", "pods/log"): {"get", "list", "watch"},
}
QUEUE = {("kueue.x-k8s.io", "localqueues"): {"get"}}
ROLES = {"prefopt-component": RIGHTS, "prefopt-queue": QUEUE}
GRANTED = {"cpu-laptop": {"prefopt-component"}, "gpu": {"prefopt-component"}, "kueue": set(ROLES)}
"""Which of them a place has; jobs bring none."""
COMPONENTS = {
    ("ServiceAccount", name, "prefopt") for name in ("prefopt-component", "pipeline-runner", "default-editor")
}
"""Whom pods of components run as: ours, and those of Kubeflow Pipelines for one user and for a profile."""


def ids(value: object) -> str | None:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("name", "pod"), pods(), ids=ids)
def test_a_pod_is_confined(name: str, pod: Document) -> None:
    spec = pod["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] >= 10000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] == "prefopt-autoscaler")
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        _confined(container["securityContext"])
        requests, limits = (container["resources"][key] for key in ("requests", "limits"))
        assert {"cpu", "memory"} <= requests.keys() & limits.keys()
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], "the only place it can write to"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in spec["volumes"]}


def _confined(context: Document) -> None:
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("name", "cluster"), ray_clusters(), ids=ids)
def test_what_the_operator_adds_to_a_head_is_confined_too(name: str, cluster: Document) -> None:
    scales = cluster.get("enableInTreeAutoscaling", False)
    assert scales == ("autoscalerOptions" in cluster)
    if scales:
        options = cluster["autoscalerOptions"]
        _confined(options["securityContext"])
        assert {"name": "tmp", "mountPath": "/tmp"} in options["volumeMounts"]
    accounts = {group["template"]["spec"]["serviceAccountName"] for group in cluster["workerGroupSpecs"]}
    head = cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"]
    assert accounts == {"prefopt-ray"}, "a worker must not have its head's rights"
    assert head == ("prefopt-autoscaler" if scales else "prefopt-ray")


@pytest.mark.parametrize("place", BUILDS)
def test_rights_are_those_that_a_component_needs_and_nobody_elses(place: str) -> None:
    documents = built(place)
    assert not [d for d in documents if d["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    bindings = [d for d in documents if d["kind"] == "RoleBinding"]
    for binding in bindings:
        assert {(s["kind"], s["name"], s["namespace"]) for s in binding["subjects"]} == COMPONENTS
    roles = [d for d in documents if d["kind"] == "Role"]
    assert (
        {d["roleRef"]["name"] for d in bindings} == {d["metadata"]["name"] for d in roles} == GRANTED.get(place, set())
    )
    for role in roles:
        granted: dict[tuple[str, str], set[str]] = {}
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    granted.setdefault((group, resource), set()).update(rule["verbs"])
        assert granted == ROLES[role["metadata"]["name"]]


@pytest.mark.parametrize("place", ["cpu-laptop", "gpu", "kueue"])
def test_accounts_exist_and_give_no_token_unless_a_pod_says_so(place: str) -> None:
    accounts = {d["metadata"]["name"]: d for d in built(place) if d["kind"] == "ServiceAccount"}
    used = {pod["spec"]["serviceAccountName"] for name, pod in pods() if name.startswith(place)}
    assert used <= accounts.keys()
    for name in used:
        assert accounts[name]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("name", "document"), everything(), ids=ids)
def test_no_secret_is_written_down(name: str, document: Document) -> None:
    assert document["kind"] != "Secret"
    for key, value in _pairs(document):
        if re.search(r"password|passwd|secret_access|access_key|api_?key", key, re.IGNORECASE):
            pytest.fail(f"{key} looks like a secret")
        if key == "env":
            for variable in value:
                assert "value" not in variable or not re.search(r"TOKEN|KEY|SECRET|PASS", variable["name"])
        if isinstance(value, str):
            assert not re.search(r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20}|-----BEGIN|://[^/\s@]+:[^/\s@]+@", value)


def _pairs(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [pair for key, value in node.items() for pair in ((str(key), value), *_pairs(value))]
    return [pair for value in node for pair in _pairs(value)] if isinstance(node, list) else []


@pytest.mark.parametrize(("name", "document"), everything(), ids=ids)
def test_everything_lies_in_one_namespace(name: str, document: Document) -> None:
    everywhere = ("Namespace", "ClusterQueue", "ResourceFlavor")
    assert document["metadata"].get("namespace") == (None if document["kind"] in everywhere else "prefopt")


def test_the_namespace_takes_confined_pods_alone() -> None:
    (namespace,) = [d for d in built("gpu") if d["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def policies() -> dict[str, Document]:
    return {d["metadata"]["name"]: d["spec"] for d in built("gpu") if d["kind"] == "NetworkPolicy"}


def test_traffic_is_denied_unless_a_policy_allows_it() -> None:
    assert policies()["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_ray_is_reached_from_outside_at_two_ports_alone() -> None:
    spec = policies()["ray"]
    assert spec["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    among, dashboard, metrics = spec["ingress"]
    assert among == {"from": [{"podSelector": spec["podSelector"]}]}
    assert [port["port"] for rule in (dashboard, metrics) for port in rule["ports"]] == [8265, 8080]
    assert all(rule["from"] for rule in (dashboard, metrics)), "no rule without a source"
    for name in policies():
        for rule in policies()[name].get("egress", []):
            for place in rule["to"]:
                assert "ipBlock" not in place or {port["port"] for port in rule["ports"]} <= {443, 6443}


def test_policies_and_budgets_choose_pods_that_there_are() -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods()]
    own = {label for pod in labels for label in pod.items()}
    given = {("ray.io/is-ray-node", "yes"), ("ray.io/node-type", "head"), ("ray.io/cluster", "prefopt")}
    for name, document in of_kind("NetworkPolicy", "PodDisruptionBudget"):
        selector = document["spec"].get("podSelector") or document["spec"].get("selector") or {}
        for label in selector.get("matchLabels", {}).items():
            assert label in own | given, name


def test_each_budget_holds_the_head_of_one_job() -> None:
    for place in ("cpu-laptop/jobs", "gpu/jobs", "kueue/jobs"):
        heads = [
            {
                **d["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"],
                "ray.io/node-type": "head",
            }
            for d in built(place)
            if d["kind"] == "RayJob"
        ]
        budgets = [d["spec"] for d in built(place) if d["kind"] == "PodDisruptionBudget"]
        assert len(budgets) == len(heads)
        for budget in budgets:
            wanted = budget["selector"]["matchLabels"].items()
            assert len([head for head in heads if wanted <= head.items()]) == 1
            assert budget["minAvailable"] == 1, "a share needs a controller with a scale, which these pods have not"


@pytest.mark.parametrize(("name", "pod"), pods(), ids=ids)
def test_prometheus_finds_every_ray_node(name: str, pod: Document) -> None:
    if "submitterPodTemplate" in name:
        return
    annotations = pod["metadata"]["annotations"]
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert annotations["prometheus.io/scrape"] == "true"
    assert int(annotations["prometheus.io/port"]) == ports["metrics"]


def test_all_manifests_are_reached_by_an_overlay() -> None:
    written = {
        (d["kind"], d["metadata"]["name"])
        for path in K8S.rglob("*.yaml")
        if "examples" not in path.parts
        for d in yaml.safe_load_all(path.read_text())
        if isinstance(d, dict) and "metadata" in d and d.get("kind") != "Kustomization"
    }
    reached = {(d["kind"], d["metadata"]["name"]) for _, d in everything()}
    stage = {(kind, "prefopt") for kind in ("RayJob", "PodDisruptionBudget")}
    assert written - stage <= reached
    assert {kind for kind, _ in reached} >= set(RAY)
