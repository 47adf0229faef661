"""KFP component: fine-tune the model on the preferences."""

from kfp import dsl
from kfp.dsl import Metrics, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def train(
    config: str,
    run_dir: str,
    model: Output[Model],
    metrics: Output[Metrics],
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> None:
    """Train, or go on from the last whole checkpoint.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the run directory, a path that all components share or an s3:// prefix.
    overrides: KEY=VALUE, as the command line's --set.
    metrics: those of the last step.
    stage_uri: the directory of the stage, whose `model/` is the model; the artifact `model` is its manifest.
    """
    import json
    from pathlib import Path

    from prefopt.platform.stage import run_stage

    done = run_stage("train", config, run_dir, overrides)
    Path(model.path).write_text(done.text("manifest.json"), encoding="utf-8")
    model.metadata.update(done.record)
    last_step = json.loads(done.text("steps.jsonl").splitlines()[-1])
    for name, value in last_step.items():
        if isinstance(value, int | float):
            metrics.log_metric(name, float(value))
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
