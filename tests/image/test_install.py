"""What the image installs: pinned as a whole, and installed for real where there is time."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from prefopt import __version__
from tests.kit.dockerfile import pinned, read_dockerfile
from tests.kit.manifests import ROOT

STAGES = read_dockerfile()
BUILD = STAGES["build"]
EXTRAS = ("kubeflow", "s3")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, extras: tuple[str, ...]) -> list[Requirement]:
    """What an installed package needs here, with some of its extras."""
    found = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    return [need for need in found if not need.marker or any(need.marker.evaluate({"extra": e}) for e in (*extras, ""))]


def test_the_image_has_the_extras_that_components_need() -> None:
    (install,) = re.findall(r"'\.\[(.+?)\]'", " ".join(BUILD.values("RUN")))
    assert set(install.split(",")) == set(EXTRAS)


def test_whatever_the_image_installs_is_pinned_and_fits() -> None:
    """CUDA libraries are left out: the wheel of torch that brings them pins them itself."""
    versions = {normal(name): version for name, version in pinned().items()}
    seen, waiting = set(), [("prefopt", EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        for need in needed(name, extras):
            key = (normal(need.name), tuple(sorted(need.extras)))
            if key in seen or key[0].startswith(("nvidia-", "cuda-", "triton")):
                continue
            seen.add(key)
            assert key[0] in versions, f"{need} of {name} is not in constraints.txt"
            assert need.specifier.contains(versions[key[0]], prereleases=True), f"{need} of {name}"
            waiting.append((need.name, tuple(need.extras)))
    assert len(seen) > 80


@pytest.mark.matrix
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_commands_of_the_build_stage_run(tmp_path: Path) -> None:
    """All of them, in their order, in an empty directory: a new environment with prefopt comes out."""
    work, target = tmp_path / "src", tmp_path / "prefopt"
    work.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        **STAGES["torch-cpu"].environment,
        "RAY_VERSION": pinned()["ray"],
        "PATH": os.pathsep.join([str(target / "bin"), str(Path(sys.base_prefix) / "bin"), os.environ["PATH"]]),
    }
    for kind, value in BUILD.instructions:
        if kind == "COPY":
            for source in value.split()[:-1]:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                shutil.rmtree(work / source, ignore_errors=True)
                copy(ROOT / source, work / source)
        elif kind == "RUN":
            command = value.replace("/opt/prefopt", str(target))
            done = subprocess.run(["sh", "-ec", command], cwd=work, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    shutil.rmtree(work)
    told = subprocess.run(
        [str(target / "bin" / "prefopt"), "version"],
        cwd=tmp_path,
        env={**environment, "PREFOPT_RAY_VERSION": pinned()["ray"]},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout) == (0, f"{__version__}\n"), told.stderr[-2000:]
