"""KFP component: rewards, soft preferences, the minority metric, latents and visits."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def score(
    config: str,
    run_dir: str,
    data: Output[Dataset],
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> None:
    """Compute what training reads; rows that the store holds are not computed again.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the run directory, a path that all components share or an s3:// prefix.
    overrides: KEY=VALUE, as the command line's --set.
    stage_uri: the directory of the stage; `data` is its manifest.
    """
    from pathlib import Path

    from prefopt.platform.stage import run_stage

    done = run_stage("score", config, run_dir, overrides)
    Path(data.path).write_text(done.text("manifest.json"), encoding="utf-8")
    data.metadata.update(done.record)
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
