"""KFP component: evaluate the tuned model of a run, and show what came out in the KFP UI."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Markdown, Metrics, Output

IMAGE = "prefopt:0.1.0"


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
    stage_uri: the directory of the evaluate stage; `evaluation` points to it, too.
    """
    import subprocess
    import sys
    import tempfile
    from collections import deque
    from pathlib import Path

    from prefopt.evaluation.artifacts import config_text, read_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        place, answer = Path(scratch, "config.yaml"), Path(scratch, "answer")
        place.write_text(config_text(config), encoding="utf-8")
        command = [sys.executable, "-m", "prefopt", "evaluate", str(place), "--run-dir", run_dir, "--json"]
        command += [argument for override in overrides for argument in ("--set", override)]
        last: deque[str] = deque(maxlen=5)
        with (
            answer.open("w") as told,
            subprocess.Popen(command, stdout=told, stderr=subprocess.PIPE, text=True, errors="replace") as process,
        ):
            assert process.stderr is not None
            for line in process.stderr:
                sys.stderr.write(line)
                last.append(line)
        if process.returncode:
            raise RuntimeError(f"prefopt evaluate ended with exit code {process.returncode}: {''.join(last).strip()}")
        found = read_artifacts(answer.read_text().splitlines()[-1])
    Path(report.path).write_text(found.html, encoding="utf-8")
    Path(summary.path).write_text(found.markdown, encoding="utf-8")
    metrics.metadata["headline_reward"] = found.headline_reward
    for name, value in found.figures.items():
        metrics.log_metric(name, value)
    if found.roc:
        minority.log_roc_curve(found.roc["fpr"], found.roc["tpr"], found.roc["thresholds"])
    evaluation.uri = found.uri
    evaluation.metadata.update(found.record)
    Path(stage_uri).write_text(found.uri, encoding="utf-8")
