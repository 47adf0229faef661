"""What a RayJob asks for: by KubeRay's schema, by the rules of its operator, and in its pods."""

import copy
import json
import re
import shlex
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError
from jsonschema.protocols import Validator

import prefopt
from prefopt.cli.app import app
from prefopt.config.kubernetes import IMAGE, KubernetesConfig
from prefopt.distributed.malloc import MALLOC_ENVIRONMENT
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.manifest import Manifest, Owner, entrypoint, ray_job
from prefopt.platform.kubernetes.rules import problems
from tests.kit.ray_schemas import ray_validator

CONFIG = "s3://bucket/run/configs/0123456789ab.yaml"
TRAIN = Job("nightly-train", ("train", CONFIG, "--run-dir", "s3://bucket/run"), {"prefopt.io/pipeline": "nightly"})
SCORE = Job("nightly-score", ("score", CONFIG, "--set", "score.alpha={weights: [1, 2]}"))
GPU_TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
SPOT = {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute"}
FULL: dict[str, Any] = {
    "namespace": "team",
    "image": "registry.example/prefopt:0.1.0",
    "image_pull_secrets": ["registry"],
    "service_account": "reads-the-bucket",
    "user": 2000,
    "preemptible": {"node_selector": {"cloud/spot": "true"}, "tolerations": [SPOT], "most": 8},
    "head": {"cpus": 0.5, "memory_gb": 4, "shared_memory_gb": 1},
    "workers": {"number": 2, "cpus": 16, "memory_gb": 128, "shared_memory_gb": 20, "gpus": 8},
    "node_selector": {"cloud/zone": "a"},
    "tolerations": [GPU_TAINT],
    "secrets": ["s3-credentials", "hub"],
    "environment": {"AWS_ENDPOINT_URL": "http://store:9000"},
    "volumes": [{"claim": "models", "mount_path": "/models", "read_only": True}],
    "ttl_seconds": 0,
    "deadline_seconds": 7200,
    "pre_running_seconds": 60,
}
QUEUED = {
    "queue": "gpus",
    "priority": "high",
    "preemptible": {"node_selector": {"cloud/spot": "true"}, "priority": "low"},
}


def config(**values: Any) -> KubernetesConfig:
    return KubernetesConfig(kind="kubernetes", **values)


def pods(manifest: Manifest) -> dict[str, dict[str, Any]]:
    spec = manifest["spec"]
    return {
        "submitter": spec["submitterPodTemplate"]["spec"],
        "head": spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"],
        "workers": spec["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"],
    }


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}


EVERY = [(job, values) for job in (TRAIN, SCORE) for values in ({}, FULL, QUEUED)]


@pytest.fixture(scope="module")
def schema() -> Validator:
    return ray_validator("RayJob")


@pytest.mark.parametrize(("job", "values"), EVERY)
def test_the_manifest_fits_the_schema_of_the_operator(schema: Validator, job: Job, values: dict[str, Any]) -> None:
    schema.validate(ray_job(job, config(**values), Owner("pod", "1-2")))


@pytest.mark.parametrize("path", [("spec", "entryPoint"), ("spec", "rayClusterSpec", "headGroupSpec", "containers")])
def test_the_schema_refuses_what_it_does_not_know(schema: Validator, path: tuple[str, ...]) -> None:
    manifest: Any = copy.deepcopy(ray_job(TRAIN, config()))
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "x"
    with pytest.raises(ValidationError, match=path[-1]):
        schema.validate(manifest)


@pytest.mark.parametrize(("job", "values"), EVERY)
def test_the_operator_refuses_nothing(job: Job, values: dict[str, Any]) -> None:
    assert problems(ray_job(job, config(**values))) == []


def test_one_try_on_one_cluster_that_the_operator_removes() -> None:
    spec = ray_job(TRAIN, config(deadline_seconds=7200, pre_running_seconds=60, ttl_seconds=5))["spec"]
    assert spec["submissionMode"] == "K8sJobMode"
    assert (spec["backoffLimit"], spec["shutdownAfterJobFinishes"]) == (0, True)
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"]) == (7200, 60)
    assert spec["ttlSecondsAfterFinished"] == 5
    assert "suspend" not in spec, "it is Kueue's"


def test_gpus_wait_a_minute_at_most_after_the_end() -> None:
    assert ray_job(TRAIN, config())["spec"]["ttlSecondsAfterFinished"] <= 60


@pytest.mark.parametrize("values", [{}, FULL])
def test_no_pod_may_do_more_than_it_must(values: dict[str, Any]) -> None:
    for name, pod in pods(ray_job(TRAIN, config(**values))).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounted.values()) == set(volumes)
        assert "emptyDir" in volumes[mounted["/tmp"]]
        assert variables(pod)["HOME"] == "/tmp"
        if name != "submitter":
            assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def test_head_and_workers_get_what_they_are_given() -> None:
    manifest = ray_job(TRAIN, config(**FULL))
    found = pods(manifest)
    head, workers = (found[name]["containers"][0] for name in ("head", "workers"))
    assert head["resources"]["limits"] == {"cpu": "500m", "memory": "4Gi"}
    assert workers["resources"]["limits"] == {"cpu": "16000m", "memory": "128Gi", "nvidia.com/gpu": "8"}
    assert workers["resources"]["requests"] == workers["resources"]["limits"]
    group = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert int(group["rayStartParams"]["object-store-memory"]) == 16 * 2**30
    shared = next(volume for volume in found["workers"]["volumes"] if volume["name"] == "shared-mem")
    assert shared["emptyDir"]["sizeLimit"] == "20Gi"
    for container in (head, workers):
        assert container["envFrom"] == [{"secretRef": {"name": "s3-credentials"}}, {"secretRef": {"name": "hub"}}]
        assert {"name": "claim-0", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    for name in ("head", "workers"):
        assert MALLOC_ENVIRONMENT.items() <= variables(found[name]).items()
        assert variables(found[name])["AWS_ENDPOINT_URL"] == "http://store:9000"
    for pod in found.values():
        assert pod["serviceAccountName"] == "reads-the-bucket"
        assert pod["nodeSelector"] == {"cloud/zone": "a"}
        assert pod["tolerations"] == [{"operator": "Exists", **GPU_TAINT}]
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_one_image_for_all_pods_with_the_ray_of_this_machine() -> None:
    manifest = ray_job(TRAIN, config())
    assert f"prefopt:{prefopt.__version__}" == IMAGE
    assert {pod["containers"][0]["image"] for pod in pods(manifest).values()} == {IMAGE}
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")


def test_ray_asks_for_a_token_unless_told_otherwise() -> None:
    assert ray_job(TRAIN, config())["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "authOptions" not in ray_job(TRAIN, config(auth="disabled"))["spec"]["rayClusterSpec"]


def test_only_the_workers_of_score_are_preemptible_and_may_become_more() -> None:
    for job, most, selector in ((TRAIN, 2, {"cloud/zone": "a"}), (SCORE, 8, {"cloud/zone": "a", "cloud/spot": "true"})):
        manifest = ray_job(job, config(**FULL))
        cluster, found = manifest["spec"]["rayClusterSpec"], pods(manifest)
        (group,) = cluster["workerGroupSpecs"]
        assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, most)
        assert found["workers"]["nodeSelector"] == selector
        assert (SPOT in found["workers"]["tolerations"]) is (job is SCORE)
        assert found["head"]["nodeSelector"] == {"cloud/zone": "a"}
        assert cluster.get("enableInTreeAutoscaling", False) is (job is SCORE)
        assert found["head"]["automountServiceAccountToken"] is (job is SCORE), "the autoscaler calls Kubernetes"


def test_the_queue_is_named_by_kueues_own_label() -> None:
    labels = ray_job(TRAIN, config(**QUEUED))["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
    assert labels["kueue.x-k8s.io/priority-class"] == "high"
    assert labels["prefopt.io/pipeline"] == "nightly"
    assert ray_job(SCORE, config(**QUEUED))["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
    assert not any("kueue" in label for label in ray_job(TRAIN, config())["metadata"]["labels"])


def test_the_job_vanishes_with_its_owner() -> None:
    (owner,) = ray_job(TRAIN, config(), Owner("component", "1-2"))["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["kind"], owner["name"], owner["uid"]) == ("v1", "Pod", "component", "1-2")
    assert "ownerReferences" not in ray_job(TRAIN, config())["metadata"]


def test_no_value_of_a_secret_is_in_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "do-not-tell")
    written = json.dumps(ray_job(TRAIN, config(**FULL)))
    assert "do-not-tell" not in written
    assert "s3-credentials" in written
    assert "envFrom" not in pods(ray_job(TRAIN, config(**FULL)))["submitter"]["containers"][0]


@pytest.mark.parametrize("job", [TRAIN, SCORE])
def test_the_entrypoint_parses_with_our_command_line(job: Job) -> None:
    program, stage, *arguments = shlex.split(entrypoint(job))
    assert program == "prefopt"
    command: Any = typer.main.get_command(app)
    with command.commands[stage].make_context(stage, arguments) as context:
        assert context.params["config"] == CONFIG


ODD = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cs", "Cc"]), max_size=12)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `prefopt` that shows its arguments."""
    directory = tmp_path_factory.mktemp("programs")
    program = directory / "prefopt"
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return directory


def through_the_cluster(command: str, programs: Path) -> list[str]:
    """The arguments that reach the command: Kubernetes expands it, bash in the submitter splits it, `ray job submit`
    joins what it is given, and a shell on the head runs that."""
    expanded = re.sub(r"\$(\$|\(HOME\))", lambda found: "$" if found.group() == "$$" else "/tmp", command)
    join = "import shlex, sys; print(shlex.join(sys.argv[1:]), end='')"
    submitter = f"{shlex.join([sys.executable, '-S', '-c', join])} {expanded} ; "
    submitted = subprocess.run(["bash", "-ec", submitter], capture_output=True, text=True, check=True).stdout
    place = {"PATH": f"{programs}:/usr/bin:/bin", "PYTHONUTF8": "1"}
    ran = subprocess.run(submitted, shell=True, capture_output=True, text=True, check=True, env=place)
    arguments: list[str] = json.loads(ran.stdout)
    return arguments


@pytest.mark.parametrize(
    "odd", ["a b", "{name: 'dpo', \"x\": [1, 2]}", "$HOME $(HOME) $$ $$(HOME)", "`id`; echo & | > x", "back\\slash", ""]
)
def test_arguments_reach_the_command_unchanged(programs: Path, odd: str) -> None:
    job = Job("odd", ("train", CONFIG, "--set", odd))
    assert through_the_cluster(entrypoint(job), programs) == list(job.arguments)


@given(st.lists(ODD, max_size=4))
def test_a_shell_reads_the_entrypoint_as_it_was_meant(arguments: list[str]) -> None:
    command = entrypoint(Job("odd", tuple(arguments)))
    expanded = re.sub(r"\$(\$|\(\w+\))", lambda found: "$" if found.group() == "$$" else "expanded", command)
    assert shlex.split(expanded) == ["prefopt", *arguments]
