"""What holds of every component and pipeline."""

import ast
import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(path.parent.name for path in ROOT.glob("components/*/component.py"))
SOURCES = sorted(
    path.relative_to(ROOT).as_posix() for room in ("components", "pipelines") for path in (ROOT / room).rglob("*.py")
)
TOGETHER = {"kfp", "components", "pipelines", *sys.stdlib_module_names}


def imported(tree: ast.Module) -> set[str]:
    """Packages that are imported when the module is."""
    names = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    names += [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    return {name.partition(".")[0] for name in names}


def component(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}.component"), name)


def test_all_are_there() -> None:
    assert {"ingest", "inject", "score", "card", "train", "evaluate", "drift", "gate", "promote"} <= set(COMPONENTS)


@pytest.mark.parametrize("source", SOURCES)
def test_a_module_imports_kfp_the_standard_library_and_its_like_alone(source: str) -> None:
    assert imported(ast.parse((ROOT / source).read_text())) <= TOGETHER


def assigned(tree: ast.Module) -> set[str]:
    """Attributes that something is assigned to."""
    nodes = list(ast.walk(tree))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("name", COMPONENTS)
def test_an_artifact_stays_where_kubeflow_uploads_it_from(name: str) -> None:
    source = (ROOT / "components" / name / "component.py").read_text()
    assert assigned(ast.parse(source)).isdisjoint({"uri", "path"})
    assert "setattr" not in source


def test_an_assignment_is_found_however_it_is_written() -> None:
    for line in ("data.uri = there", "data.uri, n = both", "data.uri: str = there", "for data.uri in all: ..."):
        assert assigned(ast.parse(line)) == {"uri"}
    assert assigned(ast.parse("there = data.uri")) == set()


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_runs_in_the_release_image_and_installs_nothing(name: str, tmp_path: Path) -> None:
    compiler.Compiler().compile(component(name), str(tmp_path / "component.yaml"))
    (spec,) = yaml.safe_load_all((tmp_path / "component.yaml").read_text())
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == f"prefopt:{importlib.metadata.version('prefopt')}"
    assert "pip install" not in " ".join(executor["container"]["command"])


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_thin_and_its_readme_names_what_goes_in_and_comes_out(name: str) -> None:
    source = ROOT / "components" / name / "component.py"
    assert len(source.read_text().splitlines()) <= 60
    readme, spec = source.with_name("README.md").read_text(), component(name).component_spec
    for one in [*(spec.inputs or {}), *(spec.outputs or {})]:
        assert f"`{one}`" in readme, one
    assert f"from components.{name}.component import {name}" in readme
    assert f"({name}/README.md)" in (ROOT / "components" / "README.md").read_text()
