"""The two ways to retrain by the clock: what they run is our command, and what they grant is little."""

import importlib.metadata
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from prefopt.cli.app import app
from tests.kit.ray_rules import broken_rules
from tests.kit.ray_schemas import ray_validator

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"
KUBERNETES = "1.34"
NAMES = ["retrain-cronjob", "retrain-raycronjob"]


def example(name: str) -> dict[str, Any]:
    (made,) = yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text())
    assert isinstance(made, dict)
    return made


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """Specs of all pods in a manifest."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for child in node.values():
            yield from pods(child)
    elif isinstance(node, list):
        for child in node:
            yield from pods(child)


def words(made: dict[str, Any]) -> list[str]:
    if made["kind"] == "RayCronJob":
        return shlex.split(made["spec"]["jobTemplate"]["entrypoint"])
    (container,) = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_runs_is_a_command_of_ours(name: str) -> None:
    program, command, *arguments = words(example(name))
    assert (program, command) == ("prefopt", "retrain")
    group = typer.main.get_command(app)
    parsed = group.commands[command].make_context(command, arguments).params  # type: ignore[attr-defined]
    assert parsed["config"].startswith("s3://")
    assert parsed["run_dir"].startswith("s3://")
    assert parsed["json_"] is True


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_is_unprivileged_and_runs_the_release_image(name: str) -> None:
    found = list(pods(example(name)))
    assert found
    for pod in found:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["image"] == f"prefopt:{importlib.metadata.version('prefopt')}"
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["envFrom"] == [{"secretRef": {"name": "prefopt-s3"}}]
            assert {mount["name"] for mount in container["volumeMounts"]} == {
                volume["name"] for volume in pod["volumes"]
            }


def test_two_nights_of_a_cron_job_do_not_overlap() -> None:
    made = example("retrain-cronjob")
    assert (made["apiVersion"], made["kind"]) == ("batch/v1", "CronJob")
    assert made["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_api_server_takes_the_cron_job() -> None:
    kubernetes_validate.validate(example("retrain-cronjob"), KUBERNETES, strict=True)


def test_the_ray_cron_job_keeps_the_operator_s_rules() -> None:
    assert broken_rules(example("retrain-raycronjob")) == []


def test_the_api_server_takes_the_ray_cron_job() -> None:
    made = example("retrain-raycronjob")
    assert [f"{error.json_path}: {error.message}" for error in ray_validator(made["kind"]).iter_errors(made)] == []
