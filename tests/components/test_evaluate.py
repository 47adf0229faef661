"""The evaluation component, run for real by KFP's local runner on a run directory in which evaluate is done."""

import ast
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kfp import compiler, local

from components.evaluate import component
from prefopt.config import RunConfig, dump_config
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.errors import InputError, StorageError
from prefopt.evaluation.artifacts import config_text, read_artifacts
from prefopt.evaluation.diversity import Diversity, FeatureFigures
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.results import Comparison, Results, metrics
from prefopt.evaluation.statistics import Estimate, Roc
from prefopt.stages.chain import Chain
from tests.kit.evaluation import evaluation_config
from tests.kit.models import tiny_pipeline

SOURCE = Path(component.__file__)
HTML, MARKDOWN = "<!doctype html><title>Report \u00e9</title>", "# Report\n\n\u00e9\n"


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.125, value + 0.125, 10)


def results(*, known: bool = True) -> Results:
    scores = {"base": 0.0, "tuned": 1.0}
    compared = [
        Comparison(name, estimate(value), estimate(1 - value), 0.0, scores, scores, estimate(1.0))
        for name, value in (("world/true", 0.75), ("world/style", 0.25))
    ]
    roc = Roc(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.75, 1.0]), np.array([1.5, 0.5, 0.25]))
    counts = np.ones(2)
    detection = Detection("online", np.arange(3.0), counts, counts, estimate(0.625), roc)
    diversity = Diversity(None, estimate(0.375), None, estimate(-0.25))
    figures = FeatureFigures("vae", "1", {"base": diversity, "tuned": diversity}, {"tuned": estimate(0.125)})
    return Results(
        base_name="base",
        tie_rule="half",
        models={"tuned": compared},
        accuracy=estimate(0.5) if known else None,
        accuracy_pairs=8,
        detections=[detection] if known else [],
        features=figures if known else None,
    )


def finish(config: RunConfig, run_dir: Path, found: Results) -> Storage:
    """An evaluate stage that is done."""
    chain = Chain(config, str(run_dir), start_engine=lambda: None, progress=lambda *_: None)
    place = chain.directory("evaluate")
    files = {"metrics.json": json.dumps(metrics(found)), "report.html": HTML, "report.md": MARKDOWN}
    for name, text in files.items():
        place.write_bytes(name, text.encode())
    manifest = Manifest(
        stage="evaluate",
        key=chain._keys["evaluate"],
        parents={},
        config_hash="0" * 64,
        code_version=1,
        commit="unknown",
        environment={},
        unit="image",
        rows=Rows(in_=12, out=12),
        files=[describe_file(place, name) for name in sorted(files)],
        summary={"headline_reward": "world/true"},
    )
    commit_manifest(place, manifest)
    return place


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCE.parents[2]), *sys.path[1:]]))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), raise_on_error=True)
    return tmp_path / "run"


def test_a_finished_evaluation_is_shown(run_dir: Path, tmp_path: Path) -> None:
    config = evaluation_config(tiny_pipeline(tmp_path / "base"), tmp_path / "store")
    place = finish(config, run_dir, results())
    text = dump_config(config).replace("name: kit", "name: other")
    outputs = component.evaluate(config=text, run_dir=str(run_dir), overrides=["name=kit"]).outputs
    assert Path(outputs["report"].path).read_text() == HTML
    assert Path(outputs["summary"].path).read_text() == MARKDOWN
    assert outputs["stage_uri"] == outputs["evaluation"].uri == place.uri
    record = outputs["evaluation"].metadata
    assert (record["stage"], record["skipped"], record["rows_in"], record["rows_out"]) == ("evaluate", True, 12, 12)
    shown = {key: value for key, value in outputs["metrics"].metadata.items() if key != "display_name"}
    expected: dict[str, Any] = {"headline_reward": "world/true"}
    for name, value in {
        "win_rate": 0.75,
        "accuracy_heldout": 0.5,
        "distance_from_base": 0.125,
        "diversity_across": 0.375,
        "diversity_across_change": -0.25,
        "minority_auroc": 0.625,
    }.items():
        expected |= {name: value, f"{name}_low": value - 0.125, f"{name}_high": value + 0.125}
    assert shown == expected
    assert outputs["minority"].metadata["confidenceMetrics"] == [
        {"confidenceThreshold": 1.5, "falsePositiveRate": 0.0, "recall": 0.0},
        {"confidenceThreshold": 0.5, "falsePositiveRate": 0.5, "recall": 0.75},
        {"confidenceThreshold": 0.25, "falsePositiveRate": 1.0, "recall": 1.0},
    ]


def test_a_failing_command_fails_the_task_with_its_words(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="FAILURE"):
        component.evaluate(config="name: kit\nmodle: {}\n", run_dir=str(run_dir))
    told = capfd.readouterr().out
    assert "RuntimeError: prefopt evaluate ended with exit code 2: " in told
    assert "unknown key 'modle': did you mean 'model'?" in told


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    config = evaluation_config(tiny_pipeline(tmp_path / "base"), tmp_path / "store")
    place = finish(config, tmp_path / "run", results(known=False))
    answer = {"stage": "evaluate", "rows": {"in": 1, "out": 1}, "manifest": f"{place.uri}/manifest.json"}
    found = read_artifacts(json.dumps(answer))
    assert found.figures == {"win_rate": 0.75, "win_rate_low": 0.625, "win_rate_high": 0.875}
    assert found.roc is None
    assert found.record == {"stage": "evaluate", "rows_in": 1, "rows_out": 1, "manifest": answer["manifest"]}
    with pytest.raises(InputError, match=r"no manifest\.json"):
        read_artifacts(json.dumps({**answer, "manifest": f"{tmp_path}/nothing/manifest.json"}))


def test_a_config_is_a_text_or_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text("name: here\n")
    monkeypatch.chdir(tmp_path)
    for place in ("my.yaml", str(tmp_path / "my.yaml"), (tmp_path / "my.yaml").as_uri()):
        assert config_text(place) == "name: here\n"
    assert config_text("name: kit") == "name: kit"
    with pytest.raises(StorageError, match=r"other\.yaml in .*no such file"):
        config_text("other.yaml")


def test_it_compiles(tmp_path: Path) -> None:
    compiler.Compiler().compile(component.evaluate, str(tmp_path / "evaluate.yaml"))
    (spec,) = yaml.safe_load_all((tmp_path / "evaluate.yaml").read_text())
    (made,) = spec["components"].values()
    assert set(made["inputDefinitions"]["parameters"]) == {"config", "run_dir", "overrides"}
    kinds = {
        name: found["artifactType"]["schemaTitle"] for name, found in made["outputDefinitions"]["artifacts"].items()
    }
    assert kinds == {
        "report": "system.HTML",
        "summary": "system.Markdown",
        "metrics": "system.Metrics",
        "minority": "system.ClassificationMetrics",
        "evaluation": "system.Dataset",
    }
    assert set(made["outputDefinitions"]["parameters"]) == {"stage_uri"}
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] == f"prefopt:{importlib.metadata.version('prefopt')}"
    assert "pip install" not in " ".join(executor["container"]["command"])


def test_the_module_imports_kfp_and_the_standard_library_alone() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    rooms = {name.partition(".")[0] for name in imported}
    assert rooms <= {"kfp", *sys.stdlib_module_names}
