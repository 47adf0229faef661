"""KFP component: evaluate the tuned model of a run, and show what came out in the KFP UI."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Markdown, Metrics, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def evaluate(
    config: str,
    run_dir: str,
    report: Output[HTML],
    summary: Output[Markdown],
    metrics: Output[Metrics],
    minority: Output[ClassificationMetrics],
    evaluation: Output[Dataset],
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> None:
    """Draw and score images, or take them from the run directory where that is done.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the run directory, a path that all components share or an s3:// prefix.
    overrides: KEY=VALUE, as the command line's --set.
    stage_uri: the directory of the evaluate stage; `evaluation` is its manifest.
    """
    from pathlib import Path

    from prefopt.evaluation.artifacts import read_artifacts
    from prefopt.platform.stage import run_stage

    done = run_stage("evaluate", config, run_dir, overrides)
    found = read_artifacts(done.storage)
    Path(report.path).write_text(found.html, encoding="utf-8")
    Path(summary.path).write_text(found.markdown, encoding="utf-8")
    metrics.metadata["headline_reward"] = found.headline_reward
    for name, value in found.figures.items():
        metrics.log_metric(name, value)
    if found.roc:
        minority.log_roc_curve(found.roc["fpr"], found.roc["tpr"], found.roc["thresholds"])
    Path(evaluation.path).write_text(done.text("manifest.json"), encoding="utf-8")
    evaluation.metadata.update(done.record)
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
