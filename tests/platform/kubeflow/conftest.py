"""The prefopt command in a directory with a config and compiled pipelines, and a KFP API on this machine."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from prefopt import cli
from tests.kit.data import config_tree, distinct, write_parquet
from tests.kit.kfp_api import KfpApi, Prefopt, kfp_api
from tests.kit.small_pipelines import compile_all


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with compiled pipelines."""
    place = tmp_path_factory.mktemp("pipelines")
    compile_all(place)
    return place


@pytest.fixture
def prefopt(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Prefopt:
    """Runs a command in this process, in a directory with my.yaml and pipelines/; gives exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prefopt.platform.kubeflow.session.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("prefopt.platform.kubeflow.client.EVERY", 0.0)
    for name in ("ENDPOINT", "TOKEN", "SA_TOKEN_PATH", "UI_ENDPOINT"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    write_parquet(tmp_path / "x.parquet", distinct(2))
    (tmp_path / "my.yaml").write_text(
        yaml.safe_dump(config_tree(tmp_path, [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}]))
    )
    shutil.copytree(compiled, tmp_path / "pipelines")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefopt", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with kfp_api() as server:
        yield server
