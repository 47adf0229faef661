"""`prefopt run`, and a command for each stage."""

from collections.abc import Callable

import typer

from prefopt.cli.common import (
    AsJson,
    ConfigPath,
    Debug,
    Limit,
    Overrides,
    RayAddress,
    RunDir,
    configure,
    execute,
    print_json,
    stage_record,
)
from prefopt.stages.keys import STAGES

STAGE_HELP = {
    "ingest": "Read preference data into canonical pairs, votes and images.",
    "inject": "Add seeded label noise, and keep the truth aside.",
    "score": "Run reward models; compute soft preferences, the minority metric, latents and visits.",
    "card": "Show what the data hold: ties, duplicates, contradictions, annotators, prompts, suspicious pairs.",
    "train": "Fine-tune the model on the preferences.",
}


def run(
    config: ConfigPath,
    run_dir: RunDir = None,
    set_: Overrides = None,
    limit: Limit = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Run all stages, skipping what is done."""
    tree, place = configure(config, run_dir, set_, limit, ray_address)
    outcomes = execute(tree, place, list(STAGES), debug)
    report = f"{place}/report.html"
    if json_:
        print_json(
            {
                "executed": [outcome.name for outcome in outcomes if not outcome.skipped],
                "skipped": [outcome.name for outcome in outcomes if outcome.skipped],
                "report": report,
            }
        )
    elif all(outcome.skipped for outcome in outcomes):
        typer.echo(f"Nothing to do: all stages are up to date. Report: {report}")
    else:
        typer.echo(f"Data card: {place}/data-card.html. Report: {report}")


def stage_command(stage: str) -> Callable[..., None]:
    """The command that runs one stage."""

    def command(
        config: ConfigPath,
        run_dir: RunDir = None,
        set_: Overrides = None,
        limit: Limit = None,
        json_: AsJson = False,
        ray_address: RayAddress = None,
        debug: Debug = False,
    ) -> None:
        tree, place = configure(config, run_dir, set_, limit, ray_address)
        (outcome,) = execute(tree, place, [stage], debug)
        if json_:
            print_json(stage_record(outcome))
        elif stage == "card":
            typer.echo(f"Data card: {place}/data-card.html")

    return command
