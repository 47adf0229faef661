"""Images, versions and commands of the manifests are those of this release."""

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from prefopt.cli.app import app
from prefopt.config import load_config
from prefopt.stages.keys import STAGES
from tests.kit.kustomize import Document, containers
from tests.kit.manifests import K8S, ROOT, built, everything, of_kind, ray_clusters, ray_jobs

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
PAIRS = {"run.yaml": {"cpu-laptop": "quickstart", "gpu": "sd15_lora"}, "retrain.yaml": {"gpu": "retrain"}}
CONFIGS = [(overlay, name, example) for name, places in PAIRS.items() for overlay, example in places.items()]


def ids(value: object) -> str | None:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("name", "document"), everything(), ids=ids)
def test_every_image_is_this_release(name: str, document: Document) -> None:
    suffix = "-cpu" if name.startswith("cpu-laptop") else ""
    assert {container["image"] for container in containers(document)} <= {f"prefopt:{VERSION}{suffix}"}


@pytest.mark.parametrize(("name", "cluster"), ray_clusters(), ids=ids)
def test_the_ray_version_is_that_of_the_image(name: str, cluster: Document) -> None:
    assert RAY is not None
    assert cluster["rayVersion"] == RAY[1]
    assert cluster["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize(("name", "job"), ray_jobs(), ids=ids)
def test_the_entrypoint_is_a_command_of_ours(name: str, job: Document) -> None:
    """It also goes through the submitter's shell, so that an operator such as && would not reach the cluster."""
    program, command, *arguments = shlex.split(job["entrypoint"])
    assert program == "prefopt"
    assert not re.search(r"[&|;<>$`*?(){}#!~]", job["entrypoint"])
    parsed = parse(command, arguments)
    assert parsed["run_dir"].startswith("/data/")
    config = parsed.get("config") or parsed["given"][0]
    assert config in mounted(name)


def parse(command: str, arguments: list[str]) -> dict[str, Any]:
    """The arguments as the command line takes them; raises UsageError for those that it refuses."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands[command].make_context(command, list(arguments)).params


def mounted(name: str) -> set[str]:
    """The paths of the configs that an overlay mounts."""
    overlay = name.partition("/")[0]
    (data,) = [d["data"] for d in built(overlay) if d["kind"] == "ConfigMap"]
    return {f"/etc/prefopt/{key}" for key in data}


def test_a_wrong_argument_would_be_found() -> None:
    with pytest.raises(Exception, match="rundir"):
        parse("train", ["/etc/prefopt/run.yaml", "--rundir", "/data"])
    with pytest.raises(KeyError):
        parse("trian", [])


@pytest.mark.parametrize("overlay", ["cpu-laptop", "gpu", "kueue"])
def test_there_is_a_job_for_every_stage_that_another_one_needs(overlay: str) -> None:
    jobs = {d["metadata"]["name"]: d for d in built(f"{overlay}/jobs") if d["kind"] == "RayJob"}
    stages = {name.removeprefix("prefopt-") for name in jobs}
    assert {"ingest", "score", "train", "evaluate"} <= stages
    assert {parent for stage in stages for parent in STAGES[stage].parents} <= stages
    for name, document in jobs.items():
        stage = name.removeprefix("prefopt-")
        assert document["spec"]["entrypoint"].split()[1] == stage
        assert document["metadata"]["labels"]["app.kubernetes.io/component"] == stage


@pytest.mark.parametrize(("overlay", "name", "example"), CONFIGS)
def test_a_config_is_an_example_that_lies_elsewhere(overlay: str, name: str, example: str) -> None:
    ours = load_config(K8S / "overlays" / overlay / name).model_dump(mode="json")
    theirs = load_config(ROOT / "examples" / f"{example}.yaml").model_dump(mode="json")
    for path, place in differences(ours, theirs):
        assert isinstance(place, str), path
        assert place.startswith("/data/"), path
    assert ours["store"].startswith("/data/")
    for path, place in leaves(ours):
        if path.rpartition(".")[2] in ("path", "images", "withdrawn", "registry", "store") and place:
            assert os.path.isabs(place) or path == "model.path", f"{path}: a pod would look for {place} in /tmp"


def test_configs_in_the_map_are_the_files() -> None:
    (data,) = [d["data"] for d in built("gpu") if d["kind"] == "ConfigMap"]
    assert data == {name: Path(K8S, "overlays", "gpu", name).read_text() for name in ("run.yaml", "retrain.yaml")}


@pytest.mark.parametrize(("name", "document"), of_kind("RayJob"), ids=ids)
def test_there_are_as_many_gpus_as_the_config_trains_on(name: str, document: Document) -> None:
    overlay, _, stage = name.split("/")[0], name.split("/")[1], document["metadata"]["name"].removeprefix("prefopt-")
    config = load_config(K8S / "overlays" / overlay.replace("kueue", "gpu") / "run.yaml")
    (group,) = document["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    gpus = group["replicas"] * int(limits.get("nvidia.com/gpu", 0))
    cpus = group["replicas"] * int(limits["cpu"])
    needs_gpu = bool(config.cluster.worker_gpus) and stage not in ("ingest", "inject")
    assert gpus == (config.train.workers if needs_gpu else 0)
    assert cpus > config.cluster.worker_cpus * max(config.train.workers, config.cluster.workers)


def leaves(tree: Any, at: str = "") -> list[tuple[str, Any]]:
    """Dotted paths and values of a tree."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, f"{at}.{key}" if at else key)]
    if isinstance(tree, list):
        return [leaf for index, value in enumerate(tree) for leaf in leaves(value, f"{at}.{index}")]
    return [(at, tree)]


def differences(ours: Any, theirs: Any) -> list[tuple[str, Any]]:
    """The leaves of the first tree that the second one has not."""
    known = set(map(repr, leaves(theirs)))
    return [leaf for leaf in leaves(ours) if repr(leaf) not in known]
