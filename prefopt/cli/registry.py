"""`prefopt registry`: who is the champion, who decided it, and decisions by hand."""

from typing import Annotated

import typer

from prefopt.cli.common import AsJson, Debug, print_json
from prefopt.errors import ConfigError, InputError
from prefopt.registry import Champion, Record, Registry, differences, promotable

registry = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Place = Annotated[str, typer.Option("--registry", metavar="URI", help="The registry: local directory or s3:// prefix.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides. Needed.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
_LONGEST_NAME, _LONGEST_REASON = 200, 4000
_DIGITS = 12


@registry.command("list")
def list_(place: Place, json_: AsJson = False, debug: Debug = False) -> None:
    """Show the history: number, time, action, model, who and why."""
    history = Registry(place).history()
    if json_:
        champion = next((record.number for record in reversed(history) if record.chooses), None)
        print_json({"champion": champion, "records": [record.model_dump(mode="json") for record in history]})
    elif history:
        typer.echo("\n".join(_line(record) for record in history))
    else:
        typer.echo(f"{place} has no records: nothing was promoted yet, or the registry is elsewhere.")


@registry.command()
def show(
    place: Place,
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", min=1, help="A record; by default the champion's.")
    ] = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the champion, or a record's model, and whether its files are still what they were."""
    record = _record(place, Registry(place).history(), number)
    problems = differences(record.model) if record.model else []
    if json_:
        verified = None if record.model is None else not problems
        print_json({"record": record.model_dump(mode="json"), "verified": verified, "problems": problems})
    else:
        typer.echo("\n".join([_line(record), *_about(record.model, problems)]))
    if problems:
        raise typer.Exit(InputError.exit_code)


@registry.command()
def promote(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run directory whose tuned model is promoted.")],
    place: Place,
    by: By = None,
    reason: Reason = "",
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a run's tuned model the champion, once its files are verified."""
    who, why = signed(by, reason)
    kept = Registry(place)
    history = kept.history()
    tell(kept.add(history, "promote", promotable(run), by=who, reason=why), json_)


@registry.command()
def rollback(
    place: Place,
    number: Annotated[
        int | None,
        typer.Argument(metavar="NUMBER", min=1, help="A record that chose it; by default the champion before."),
    ] = None,
    by: By = None,
    reason: Reason = "",
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a former champion the champion again, once its files are verified."""
    who, why = signed(by, reason)
    tell(Registry(place).rollback(number, by=who, reason=why), json_)


def _record(place: str, history: list[Record], number: int | None) -> Record:
    if number is None:
        chosen = [one for one in history if one.chooses]
        if not chosen:
            raise InputError(f"{place} has no champion yet. prefopt registry promote RUN --by NAME makes the first.")
        return chosen[-1]
    if number > len(history):
        raise InputError(f"{place} has {len(history)} records, and no record {number}.")
    return history[number - 1]


def signed(by: str | None, reason: str) -> tuple[str, str]:
    """Who decides and why, as a record takes it. ConfigError without a name, or for too long a text."""
    who, why = _plain(by or ""), reason.strip()
    if not who:
        raise ConfigError("The history says who decided: give --by NAME.")
    for option, text, most in (("--by", who, _LONGEST_NAME), ("--reason", why, _LONGEST_REASON)):
        if len(text) > most:
            raise ConfigError(f"{option} has {len(text)} characters, and a record takes {most}: make it shorter.")
    return who, why


def tell(record: Record, json_: bool) -> None:
    """Show a record that was written."""
    if json_:
        print_json({"record": record.model_dump(mode="json")})
    else:
        typer.echo(_line(record))


def _line(record: Record) -> str:
    model = f"{record.model.run} ({record.model.digest[:_DIGITS]})" if record.model else "no model"
    parts = [str(record.number), record.at, record.action, model, f"by {record.by}"]
    told = "  ".join(_plain(part) for part in parts)
    return f"{told}: {_plain(record.reason)}" if record.reason else told


def _about(model: Champion | None, problems: list[str]) -> list[str]:
    if model is None:
        return []
    state = "; ".join(problems) if problems else "the same, byte for byte"
    return [f"Run: {_plain(model.run)}", f"Train: {model.train}", f"Digest: {model.digest}", f"Files: {_plain(state)}"]


def _plain(text: str) -> str:
    """On one line, without characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
