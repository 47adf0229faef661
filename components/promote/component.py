"""KFP component: accept what a night has proposed, in the name of a person."""

from kfp import dsl
from kfp.dsl import Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def promote(
    config: str,
    run_dir: str,
    by: str,
    champion: Output[Model],
    reason: str = "",
    number: int = 0,
    overrides: list[str] = [],  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> int:
    """Make a proposed model the champion, once its files are verified. Gives the number of the registry's new record.

    config: the config of the nights: its text, or where it lies.
    run_dir: the directory of all nights.
    by: who decides.
    reason: why, for the history.
    number: the record that proposed it; 0 for the last one.
    overrides: KEY=VALUE, as the command line's --set.
    champion: the registry's record; its metadata say where the model's run lies.
    """
    import json
    from pathlib import Path

    from prefopt.platform.stage import run_command

    options = [*([str(number)] if number else []), f"--by={by}", f"--reason={reason}"]
    record = run_command("promote", config, run_dir, overrides, options)["record"]
    model = record["model"]
    Path(champion.path).write_text(json.dumps(record, indent=2), encoding="utf-8")
    champion.metadata.update(uri=model["run"], digest=model["digest"], key=model["train"], by=record["by"])
    return int(record["number"])
