"""KFP component: write down what follows from a night."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def decide(
    config: str,
    run_dir: str,
    reason: dsl.OutputPath(str),  # type: ignore[valid-type]
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> str:
    """Conclude a planned night from its stages. Gives the action: `promote`, `propose`, `reject` or `hold`.

    config: the config that the night was planned with, not night.yaml: its text, or where it lies.
    run_dir: the directory of all nights.
    overrides: KEY=VALUE, as the command line's --set.
    reason: the registry's reason.
    """
    from pathlib import Path

    from prefopt.platform.stage import run_command

    told = run_command("retrain", config, run_dir, overrides, ["--only", "decide"])
    Path(reason).write_text(told["reason"], encoding="utf-8")
    return str(told["action"])
