"""`prefopt lab`."""

from typing import Annotated

import typer

from prefopt.cli.common import AsJson, Debug, RayAddress, RunDir, engine, print_json
from prefopt.config import load_config
from prefopt.config.lab import BudgetConfig, load_lab
from prefopt.console import Reporter
from prefopt.errors import WorkerError

LabPath = Annotated[str, typer.Argument(metavar="CONFIG", help="A laboratory's YAML config; see examples/lab_*.yaml.")]


def lab(
    config: LabPath,
    run_dir: RunDir = None,
    cells: Annotated[int | None, typer.Option("--cells", min=1, help="Begin at most so many cells.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.0, help="Begin none after so long.")] = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Run a grid of objectives, label noises and seeds, or what is left of it, and compare what they gave."""
    from prefopt.lab.lab import Lab

    tree = load_lab(config)
    run = load_config(tree.run, [f"cluster.address={ray_address}"] if ray_address else [])
    budget = BudgetConfig(cells=cells or tree.budget.cells, minutes=minutes or tree.budget.minutes)
    with Reporter() as reporter, engine(run, debug) as start:
        reporter.begin("lab")
        sitting = Lab(tree, run_dir or f"runs/{tree.name}", reporter).run(budget, start)
    if json_:
        told = {"cells": sitting.cells, "done": len(sitting.found), "failed": len(sitting.failed)}
        print_json({**told, "chosen": sitting.chosen})
    else:
        typer.echo(f"{len(sitting.found)} of {sitting.cells} cells are done.")
    if sitting.failed:
        raise WorkerError(
            f"{len(sitting.failed)} cells failed, as told above; all others are kept. Run the same command again when"
            " their cause is mended."
        )
