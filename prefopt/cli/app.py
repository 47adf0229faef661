"""All commands, in the order in which --help shows them, and the entry point with logging and exit codes."""

import logging
import sys

import typer

from prefopt.cli import looking, retention, retrain, stages
from prefopt.cli.evaluate import evaluate
from prefopt.cli.lab import lab
from prefopt.cli.registry import registry
from prefopt.cli.submit import submit
from prefopt.cli.submit_kfp import schedule
from prefopt.distributed.quiet import quieten
from prefopt.errors import PrefoptError
from prefopt.platform.image import check_ray_version

app = typer.Typer(
    help="Align text-to-image diffusion models with human preferences that are noisy and diverse.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(stages.run)
for _name, _help in stages.STAGE_HELP.items():
    app.command(_name, help=_help)(stages.stage_command(_name))
for _command in (evaluate, looking.doctor, looking.plan, looking.leaderboard, looking.verify, looking.version):
    app.command()(_command)
app.command()(retrain.retrain)
for _name, _help in retrain.STAGE_HELP.items():
    app.command(_name, help=_help)(retrain.night_stage(_name))
app.command()(retrain.promote)
app.command()(retention.gc)
app.command()(retention.forget)
app.command()(lab)
app.add_typer(submit, name="submit", help="Run a stage or a pipeline on a cluster.")
app.command()(schedule)
app.add_typer(registry, name="registry", help="Show who is the champion, and promote or roll back by hand.")


def main() -> None:
    """Entry point of the `prefopt` command."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(name)s: %(message)s")
    if not debug:
        quieten()
    logging.getLogger("prefopt").setLevel(logging.INFO if debug else logging.WARNING)
    try:
        check_ray_version()
        app(standalone_mode=True)
    except PrefoptError as error:
        if debug:
            raise
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        cause = " ".join(str(error).split())[:500]
        typer.echo(
            f"Error: unexpected {type(error).__name__}: {cause} Finished work is kept; run the same command with"
            " --debug to see where it happened.",
            err=True,
        )
        sys.exit(1)
