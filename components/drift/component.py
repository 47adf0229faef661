"""KFP component: compare a night's new pairs with those that the champion was trained on."""

from kfp import dsl
from kfp.dsl import Metrics, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def drift(
    config: str,
    run_dir: str,
    signals: Output[Metrics],
    sentences: dsl.OutputPath(str),  # type: ignore[valid-type]
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> str:
    """Check the new pairs of a planned night. Gives the action: `train`, or `hold` until a person has looked.

    config: the night's night.yaml: its text, or where it lies.
    run_dir: the night's directory.
    overrides: KEY=VALUE, as the command line's --set.
    sentences: the reasons for the action.
    stage_uri: the directory of the stage.
    """
    from pathlib import Path

    from prefopt.drift.records import read_drift
    from prefopt.platform.stage import run_stage

    done = run_stage("drift", config, run_dir, overrides)
    found = read_drift(done.storage)
    for name, value in done.figures.items():
        signals.log_metric(name, value)
    Path(sentences).write_text("\n".join(found.sentences), encoding="utf-8")
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
    return found.action
