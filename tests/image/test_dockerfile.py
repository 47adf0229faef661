"""The image as far as it can be known without an engine: its rules, its files, its versions, its commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from prefopt.distributed import session
from prefopt.platform.image import RAY_VERSION
from tests.kit.dockerfile import pinned, read_dockerfile
from tests.kit.manifests import ROOT, pods

STAGES = read_dockerfile()
BUILD, FINAL = STAGES["build"], STAGES["runtime"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def test_the_linter_finds_nothing() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    linter = shutil.which("hadolint", path=path)
    assert linter is not None, "hadolint is missing: make setup installs it"
    done = subprocess.run([linter, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_is_one_pinned_python() -> None:
    bases = {stage.base for stage in STAGES.values() if stage.name} - {"torch-${VARIANT}"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", bases.pop())
    assert {"torch-cpu", "torch-cuda"} <= STAGES.keys()


def test_nothing_is_fetched_but_by_package_managers() -> None:
    for stage in STAGES.values():
        assert not stage.values("ADD")
        for command in stage.values("RUN"):
            assert not re.search(r"\b(curl|git clone|wget +\S*://)", command)


def test_what_is_copied_is_in_the_repository_and_not_ignored() -> None:
    files = tracked()
    for source in BUILD.sources:
        assert any(name == source or name.startswith(f"{source}/") for name in files), source
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(BUILD.sources)
    assert not FINAL.sources, "the final stage takes what the build stage has made"


def test_the_readme_and_licence_that_the_package_names_are_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= set(BUILD.sources)


def test_the_user_is_a_number_and_that_of_the_pods() -> None:
    (user,) = FINAL.values("USER")
    uid, _, gid = user.partition(":")
    assert int(uid) >= 10000
    contexts = [pod["spec"]["securityContext"] for _, pod in pods()]
    assert {(context["runAsUser"], context["runAsGroup"]) for context in contexts} == {(int(uid), int(gid))}


def test_no_secret_enters_the_image() -> None:
    for stage in STAGES.values():
        for name in (*stage.arguments, *stage.environment):
            assert not re.search(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL", name)


def test_the_final_stage_installs_no_compiler_and_leaves_no_lists() -> None:
    (command,) = FINAL.values("RUN")
    installed = re.search(r"apt-get install ([^&]+)", command)
    assert installed is not None
    assert {word for word in installed[1].split() if not word.startswith("-")} == {"wget"}
    assert "--no-install-recommends" in command
    assert "rm -rf /var/lib/apt/lists/*" in command


def test_versions_are_those_of_the_release() -> None:
    assert FINAL.arguments["VERSION"] == VERSION
    assert FINAL.arguments["RAY_VERSION"] == BUILD.arguments["RAY_VERSION"] == pinned()["ray"]
    assert FINAL.environment[RAY_VERSION] == "${RAY_VERSION}"
    assert FINAL.labels["org.prefopt.ray-version"] == "${RAY_VERSION}"
    assert FINAL.labels["org.opencontainers.image.version"] == "${VERSION}"


def test_workers_keep_memory_as_those_of_a_local_ray_do() -> None:
    assert session._MEMORY.items() <= FINAL.environment.items()


def test_whatever_is_written_lies_below_tmp() -> None:
    environment = FINAL.environment
    for name in ("HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "RAY_TMPDIR"):
        assert Path(environment[name]).is_relative_to("/tmp"), name


def test_a_pod_that_asks_for_no_gpu_sees_none() -> None:
    assert "NVIDIA_VISIBLE_DEVICES" not in FINAL.environment


@pytest.mark.parametrize(("variant", "tag"), [("cuda", VERSION), ("cpu", f"{VERSION}-cpu")])
def test_make_gives_every_argument(variant: str, tag: str) -> None:
    command = ["make", "--dry-run", "--silent", "image", "ENGINE=podman", f"VARIANT={variant}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(told.replace("\\\n", " "))
    assert words[:2] == ["podman", "build"]
    assert words[words.index("--tag") + 1] == f"prefopt:{tag}"
    given = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "--build-arg")
    assert given.keys() == {name for stage in STAGES.values() for name in stage.arguments}
    assert (given["VARIANT"], given["VERSION"], given["RAY_VERSION"]) == (variant, VERSION, pinned()["ray"])
    assert f"torch-{variant}" in STAGES
