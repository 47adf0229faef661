"""What all tasks get for a cluster, where there is none."""

from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl
from kfp.components import load_component_from_file

from pipelines.tasks import work
from tests.kit.pipelines import run_locally


@dsl.component(base_image="prefopt:test", install_kfp_package=False)  # type: ignore[untyped-decorator]
def write(place: str) -> None:
    """Leave a file."""
    from pathlib import Path

    Path(place).write_text("done", encoding="utf-8")


@dsl.pipeline(name="one-task")  # type: ignore[untyped-decorator]
def one_task(place: str) -> None:
    """As ours are made."""
    work(write(place=place))


def test_a_local_run_takes_no_notice_of_what_a_cluster_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.Compiler().compile(one_task, str(tmp_path / "one.yaml"))
    _, settings = yaml.safe_load_all((tmp_path / "one.yaml").read_text())
    assert settings["platforms"]["kubernetes"]["deploymentSpec"]["executors"].keys() == {"exec-write"}
    run_locally(tmp_path / "kfp", monkeypatch)
    load_component_from_file(str(tmp_path / "one.yaml"))(place=str(tmp_path / "left"))
    assert (tmp_path / "left").read_text() == "done"
