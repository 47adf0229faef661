"""KFP component: look for new data, and plan a night of retraining."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def plan_night(
    config: str,
    run_dir: str,
    night_config: dsl.OutputPath(str),  # type: ignore[valid-type]
    night_dir: dsl.OutputPath(str),  # type: ignore[valid-type]
    reason: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
    full: bool = False,
) -> str:
    """Read the sources and write the night's config. Gives the action: `train`, or `nothing` where too little is new.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the directory of all nights, a path that all components share or an s3:// prefix.
    overrides: KEY=VALUE, as the command line's --set.
    full: train from the base on all pairs, due or not.
    night_config: night.yaml, which the components of the night's stages take as their config; empty for `nothing`.
    night_dir: the night's directory, which they take as their run_dir.
    reason: why there is nothing to do.
    """
    from pathlib import Path

    from prefopt.platform.stage import run_command

    options = ["--only", "plan", *(["--full"] if full else [])]
    told = run_command("retrain", config, run_dir, overrides, options)
    Path(night_config).write_text(told.get("config", ""), encoding="utf-8")
    Path(night_dir).write_text(told["run"], encoding="utf-8")
    Path(reason).write_text(told.get("reason", ""), encoding="utf-8")
    return str(told["action"])
