"""KFP component: the data card, what the preference data hold."""

from kfp import dsl
from kfp.dsl import HTML, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def card(
    config: str,
    run_dir: str,
    page: Output[HTML],
    stage_uri: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> None:
    """Count ties, duplicates, contradictions, annotators and prompts, and show the most suspicious pairs.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the run directory, a path that all components share or an s3:// prefix.
    overrides: KEY=VALUE, as the command line's --set.
    stage_uri: the directory of the stage.
    """
    from pathlib import Path

    from prefopt.platform.stage import run_stage

    done = run_stage("card", config, run_dir, overrides)
    Path(page.path).write_text(done.text("data-card.html"), encoding="utf-8")
    page.metadata.update(done.record)
    Path(stage_uri).write_text(done.uri, encoding="utf-8")
