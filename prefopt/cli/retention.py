"""`prefopt gc` and `prefopt forget`."""

from typing import Annotated, Any

import typer

from prefopt.cli.common import AsJson, Debug, print_json


def gc(
    runs: Annotated[list[str], typer.Argument(metavar="RUN_DIR...", help="Run directories that share the store.")],
    keep: Annotated[str, typer.Option("--keep", metavar="N|all", help="Keep the newest N of them, or all.")],
    store: Annotated[str, typer.Option("--store", help="The store, local or s3://.")] = "runs/store",
    registry: Annotated[str | None, typer.Option("--registry", help="Keep the runs that its records name.")] = None,
    grace: Annotated[float, typer.Option("--grace", min=0.0, help="Touch nothing written in so many hours.")] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove what no kept run reaches: old runs, stages, checkpoints, images and rows of the store."""
    from prefopt.retention import command

    record, told = command.gc(runs, store, keep=keep, registry=registry, hours=grace, dry_run=dry_run)
    _tell(record, told, json_)


def forget(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Pair ids, image ids, annotator:NAME.")
    ] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE", help="Ids in a .txt or .csv file.")] = None,
    store: Annotated[str, typer.Option("--store", help="The store, local or s3://.")] = "runs/store",
    runs: Annotated[
        list[str] | None, typer.Option("--runs", metavar="RUN_DIR", help="A run directory; may be given again.")
    ] = None,
    registry: Annotated[str | None, typer.Option("--registry", help="Name its records of these models.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")] = False,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Erase what belongs to pairs, images or annotators from the store and from runs; list the models trained on it."""
    from prefopt.retention import command

    record, told = command.forget(ids or [], file, store, runs or [], registry=registry, dry_run=dry_run)
    _tell(record, told, json_)


def _tell(record: dict[str, Any], told: list[str], json_: bool) -> None:
    if json_:
        print_json(record)
    else:
        typer.echo("\n".join(told))
