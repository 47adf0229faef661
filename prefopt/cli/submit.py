"""`prefopt submit`: work for a cluster."""

import typer

from prefopt.cli.submit_kfp import submit_kfp
from prefopt.cli.submit_ray import submit_ray

submit = typer.Typer(no_args_is_help=True)
submit.command("ray")(submit_ray)
submit.command("kfp")(submit_kfp)
