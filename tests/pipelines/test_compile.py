"""The committed YAML is what the sources compile to, and keeps the rules that no compiler checks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import PIPELINES, compile_all
from pipelines.tasks import S3, USER

ROOT = Path(__file__).parents[2] / "pipelines"


def documents(place: Path) -> list[Any]:
    return list(yaml.safe_load_all(place.read_text()))


def graphs(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Tasks of every graph, with the parameters that go into it."""
    for made in [spec["root"], *spec["components"].values()]:
        if "dag" in made:
            yield made["dag"]["tasks"], set(made.get("inputDefinitions", {}).get("parameters", {}))


def test_every_pipeline_is_committed_as_it_compiles(tmp_path: Path) -> None:
    for made in compile_all(tmp_path):
        assert documents(made) == documents(ROOT / made.name), f"{made.name}: run python -m pipelines.compile"
    assert {path.stem for path in ROOT.glob("*.yaml")} == set(PIPELINES)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_task_gets_only_what_its_graph_has(name: str) -> None:
    spec, _ = documents(ROOT / f"{name}.yaml")
    assert "{{channel:" not in str(spec)
    for tasks, given in graphs(spec):
        for task in tasks.values():
            wanted = task.get("inputs", {}).get("parameters", {}).values()
            loop = {task.get("parameterIterator", {}).get("itemInput")}
            taken = {one["componentInputParameter"] for one in wanted if "componentInputParameter" in one}
            assert taken - loop <= given


@pytest.mark.parametrize("name", PIPELINES)
def test_kubeflow_takes_no_task_from_its_cache(name: str) -> None:
    spec, _ = documents(ROOT / f"{name}.yaml")
    run = [task for tasks, _ in graphs(spec) for task in tasks.values() if "dag" not in component(spec, task)]
    assert run
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in run)


@pytest.mark.parametrize("name", PIPELINES)
def test_conditions_are_such_as_a_local_run_can_judge(name: str) -> None:
    spec, _ = documents(ROOT / f"{name}.yaml")
    asked = [
        task["triggerPolicy"]["condition"]
        for tasks, _ in graphs(spec)
        for task in tasks.values()
        if "triggerPolicy" in task
    ]
    for condition in asked:
        assert re.search(r"\['pipelinechannel--[a-z-]+-Output'\] == 'train'", condition)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pod_has_the_secrets_the_volume_and_the_size_that_it_needs(name: str) -> None:
    spec, settings = documents(ROOT / f"{name}.yaml")
    executors = spec["deploymentSpec"]["executors"]
    pods = settings["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods.keys() == executors.keys()
    (claim,) = [d for d in written("base/volume.yaml") if d["kind"] == "PersistentVolumeClaim"]
    for label, pod in pods.items():
        secrets = {one["secretName"]: one for one in pod["secretAsEnv"]}
        assert secrets.keys() == {"prefopt-s3", "prefopt-hub"}
        assert all(one["optional"] is True for one in secrets.values()), "a volume alone, or public models, need none"
        names = {key["envVar"]: key["secretKey"] for one in secrets.values() for key in one["keyToEnv"]}
        assert names == {**{key: key for key in S3}, "HF_TOKEN": "token"}
        (mount,) = pod["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == (claim["metadata"]["name"], "/data")
        assert pod["securityContext"]["runAsNonRoot"] is True
        resources = executors[label]["container"]["resources"]
        assert 0 < resources["cpuRequest"] <= resources["cpuLimit"] <= 2
        assert 0 < resources["memoryRequest"] <= resources["memoryLimit"] < 9, "in GB"


def test_pods_run_as_the_user_of_the_image() -> None:
    assert f"USER {USER}:{USER}" in (ROOT.parent / "Dockerfile").read_text().splitlines()


def written(manifest: str) -> list[Any]:
    return documents(ROOT.parent / "k8s" / manifest)


def component(spec: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["components"][task["componentRef"]["name"]]
    return found
