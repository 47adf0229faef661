"""The check of the image's Ray: at the start of every command, without importing Ray."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefopt.errors import ConfigError
from prefopt.platform.image import RAY_VERSION, check_ray_version

ROOT = Path(__file__).parents[2]


def test_the_ray_that_the_image_was_built_for_is_taken() -> None:
    check_ray_version({RAY_VERSION: importlib.metadata.version("ray")})


def test_another_ray_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"built for Ray 1\.2\.3 .* and Ray 2\..*make image"):
        check_ray_version({RAY_VERSION: "1.2.3"})


def test_no_ray_at_all_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="Ray none is installed"):
        check_ray_version({RAY_VERSION: "2.60.0"})


def test_outside_an_image_nothing_is_checked() -> None:
    check_ray_version({})
    check_ray_version({RAY_VERSION: ""})


@pytest.mark.parametrize(("built", "code"), [("1.2.3", 2), (importlib.metadata.version("ray"), 0)])
def test_every_command_checks_at_its_start(built: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefopt", "version"],
        env={**os.environ, "PYTHONPATH": str(ROOT), RAY_VERSION: built},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code
    assert done.stderr.startswith("Error: This image was built for Ray 1.2.3") == bool(code)


def test_the_check_does_not_import_ray() -> None:
    program = (
        "import sys; from prefopt.platform.image import check_ray_version as check; check({'PREFOPT_RAY_VERSION': ''});"
        " print('ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "False\n"
