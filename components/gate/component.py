"""KFP component: decide whether a night's challenger is better than the champion."""

from kfp import dsl
from kfp.dsl import HTML, Metrics, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def gate(
    config: str,
    run_dir: str,
    page: Output[HTML],
    metrics: Output[Metrics],
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> str:
    """Put the gate's questions to a night's evaluation. Gives the verdict: `better` or `not_better`.

    config: the night's night.yaml: its text, or where it lies.
    run_dir: the night's directory.
    overrides: KEY=VALUE, as the command line's --set.
    stage_uri: the directory of the stage.
    """
    from pathlib import Path

    from prefopt.gate import read_decision
    from prefopt.platform.stage import run_stage

    done = run_stage("gate", config, run_dir, overrides)
    Path(page.path).write_text(done.text("decision.html"), encoding="utf-8")
    page.metadata.update(done.record)
    for name, value in done.figures.items():
        metrics.log_metric(name, value)
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
    return read_decision(done.storage).verdict
