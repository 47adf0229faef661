"""`prefopt retrain`, its two stages of its own, and `prefopt promote`."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from prefopt.cli.common import (
    AsJson,
    ConfigPath,
    Debug,
    Overrides,
    RayAddress,
    RunDir,
    configure,
    engine,
    execute,
    print_json,
    stage_record,
)
from prefopt.cli.registry import By, Reason, signed, tell
from prefopt.console import Reporter
from prefopt.errors import ConfigError
from prefopt.registry import Registry
from prefopt.stages.keys import NIGHT

if TYPE_CHECKING:
    from prefopt.retraining import NightOutcome

STAGE_HELP = {
    "drift": "Compare a night's new pairs with those that the champion was trained on.",
    "gate": "Decide whether a night's challenger is better than the champion.",
}


class Step(StrEnum):
    """A part of a night, for pipelines that run its stages one by one."""

    PLAN = "plan"
    DECIDE = "decide"


def retrain(
    config: ConfigPath,
    run_dir: RunDir = None,
    full: Annotated[bool, typer.Option("--full", help="Train from the base on all pairs, due or not.")] = False,
    only: Annotated[
        Step | None,
        typer.Option("--only", help="plan: read new data and write night.yaml; decide: conclude from its stages."),
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Pick up new data, train a challenger from the champion, compare, and promote, propose or reject it."""
    from prefopt.retraining import Night, Plan

    tree, place = configure(config, run_dir, set_, None, ray_address)
    with Reporter() as reporter, engine(tree, debug) as start:
        outcome: NightOutcome | Plan
        night = Night(tree, place, start_engine=start, watcher=reporter)
        match only:
            case Step.PLAN:
                outcome = night.plan(full=full)
            case Step.DECIDE:
                outcome = night.decide()
            case None:
                outcome = night.run(full=full)
    if json_:
        print_json(outcome.told)
    elif isinstance(outcome, Plan):
        typer.echo(f"Planned: {outcome.run_dir}/night.yaml")
    else:
        typer.echo("\n".join(_lines(outcome)))


def promote(
    config: ConfigPath,
    number: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", min=1, help="The record that proposed it; by default the last.")
    ] = None,
    run_dir: RunDir = None,
    by: By = None,
    reason: Reason = "",
    set_: Overrides = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Accept what a night has proposed: its model becomes the champion, once its files are verified."""
    from prefopt.retraining import promote_proposal, registry_place

    who, why = signed(by, reason)
    tree, place = configure(config, run_dir, set_, None, None)
    tell(promote_proposal(Registry(registry_place(tree, place)), number, by=who, reason=why), json_)


def night_stage(stage: str) -> Callable[..., None]:
    """The command that runs one of a night's own stages."""

    def command(
        config: ConfigPath,
        run_dir: RunDir = None,
        set_: Overrides = None,
        json_: AsJson = False,
        ray_address: RayAddress = None,
        debug: Debug = False,
    ) -> None:
        tree, place = configure(config, run_dir, set_, None, ray_address)
        if tree.night is None:
            raise ConfigError(
                f"{config} is not the config of a night: prefopt retrain writes one, night.yaml, for every night."
            )
        (outcome,) = execute(tree, place, [stage], debug, NIGHT)
        if json_:
            print_json(stage_record(outcome))

    return command


def _lines(outcome: "NightOutcome") -> list[str]:
    told = [f"{outcome.action}: {outcome.reason}"]
    if outcome.decision is not None:
        told.append(f"Decision: {outcome.run}/decision.html. Report: {outcome.run}/report.html")
    if outcome.action == "propose" and outcome.record is not None:
        told.append(f"A person decides: prefopt promote CONFIG {outcome.record.number} --by NAME")
    return told
