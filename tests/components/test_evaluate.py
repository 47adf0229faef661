"""The evaluation component, run for real by KFP's local runner on a run directory in which evaluate is done."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluate import component
from prefopt.config import RunConfig, dump_config
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.evaluation.artifacts import read_artifacts
from prefopt.evaluation.diversity import Diversity, FeatureFigures
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.results import Comparison, Results, metrics
from prefopt.evaluation.statistics import Estimate, Roc
from tests.kit.components import finish_stage
from tests.kit.evaluation import evaluation_config
from tests.kit.models import tiny_pipeline
from tests.kit.pipelines import run_locally, shows

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
    files = {"metrics.json": json.dumps(metrics(found)), "report.html": HTML, "report.md": MARKDOWN}
    return finish_stage(config, run_dir, "evaluate", files, {"headline_reward": "world/true"})


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_locally(tmp_path / "kfp", monkeypatch)
    return tmp_path / "run"


def test_a_finished_evaluation_is_shown(run_dir: Path, tmp_path: Path) -> None:
    config = evaluation_config(tiny_pipeline(tmp_path / "base"), tmp_path / "store")
    place = finish(config, run_dir, results())
    text = dump_config(config).replace("name: kit", "name: other")
    outputs = component.evaluate(config=text, run_dir=str(run_dir), overrides=["name=kit"]).outputs
    assert Path(outputs["report"].path).read_text() == HTML
    assert Path(outputs["summary"].path).read_text() == MARKDOWN
    assert outputs["stage_uri"] == place.uri
    shows(outputs["evaluation"], place.uri, tmp_path / "kfp")
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


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    config = evaluation_config(tiny_pipeline(tmp_path / "base"), tmp_path / "store")
    found = read_artifacts(finish(config, tmp_path / "run", results(known=False)))
    assert found.figures == {"win_rate": 0.75, "win_rate_low": 0.625, "win_rate_high": 0.875}
    assert found.roc is None
    with pytest.raises(InputError, match=r"no manifest\.json"):
        read_artifacts(Storage(f"{tmp_path}/nothing"))


def test_its_outputs_are_what_the_ui_shows() -> None:
    made = component.evaluate.component_spec
    kinds = {name: output.type for name, output in made.outputs.items()}
    assert kinds == {
        "report": "system.HTML@0.0.1",
        "summary": "system.Markdown@0.0.1",
        "metrics": "system.Metrics@0.0.1",
        "minority": "system.ClassificationMetrics@0.0.1",
        "evaluation": "system.Dataset@0.0.1",
        "stage_uri": "String",
    }
