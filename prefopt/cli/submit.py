"""`prefopt submit`: work for a cluster."""

import typer

from prefopt.cli.submit_ray import submit_ray

submit = typer.Typer(no_args_is_help=True)
submit.command("ray")(submit_ray)
