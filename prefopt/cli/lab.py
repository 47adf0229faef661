"""`prefopt lab`."""

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from prefopt.cli.common import AsJson, Debug, Overrides, RayAddress, RunDir, engine, print_json
from prefopt.config import load_config
from prefopt.config.lab import LabConfig, load_lab
from prefopt.config.root import ModelConfig
from prefopt.console import Reporter
from prefopt.errors import WorkerError

if TYPE_CHECKING:
    from prefopt.lab.lab import Sitting

LabPath = Annotated[str, typer.Argument(metavar="CONFIG", help="A laboratory's YAML config; see examples/lab_*.yaml.")]


def lab(
    config: LabPath,
    run_dir: RunDir = None,
    cells: Annotated[int | None, typer.Option("--cells", min=1, help="Begin at most so many cells.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Begin none after so long; 0 writes the page alone.")
    ] = None,
    page: Annotated[
        str | None, typer.Option("--page", help="Directory or URI for the page and its pictures [the run directory].")
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Run a grid of objectives, label noises and seeds, or what is left of it, and compare what they gave."""
    from prefopt.lab.lab import Lab
    from prefopt.lab.waiting import advice, waiting_methods

    tree = load_lab(config, set_ or [])
    address = [f"cluster.address={ray_address}"] if ray_address else []
    run = load_config(tree.run, ["cluster.engine=ray", *address])
    given = {"cells": cells, "minutes": minutes}
    budget = tree.budget.model_copy(update={name: most for name, most in given.items() if most is not None})
    place = run_dir or f"runs/{tree.name}"
    with Reporter() as reporter, engine(run, debug) as start:
        reporter.begin("lab")
        sitting = Lab(tree, place, reporter, run.cluster).run(budget, start)
    written: str | None = None
    if sitting.found:
        kept = run_dir if tree.outcomes is None else None
        written = _write(tree, run.model, sitting, page or place, _made_by(config, kept, set_ or [], page))
    if json_:
        told = {"cells": sitting.cells, "done": len(sitting.found), "failed": len(sitting.failed)}
        found = waiting_methods(tree, sitting.failed)
        waiting = {method: [cell.title for cell in cells] for method, cells in found.items()}
        print_json({**told, "chosen": sitting.chosen, "waiting": waiting, "page": written})
    else:
        told_page = f" Page: {written}" if written else ""
        typer.echo(f"{len(sitting.found)} of {sitting.cells} cells are done.{told_page}")
    if sitting.failed:
        raise WorkerError(
            f"{len(sitting.failed)} cells failed, as told above; all others are kept. Run the same command again when"
            f" their cause is mended. {advice(tree, sitting.failed)}".rstrip()
        )


def _made_by(config: str, run_dir: str | None, overrides: Sequence[str], page: str | None) -> str:
    """The command that makes the same page of the same outcomes; `run_dir` where they lie in it."""
    options = [("--run-dir", run_dir), *(("--set", one) for one in overrides), ("--page", page)]
    return shlex.join(["prefopt", "lab", config, *(part for name, one in options if one for part in (name, one))])


def _write(tree: LabConfig, model: ModelConfig, sitting: "Sitting", directory: str, made_by: str) -> str:
    from prefopt.lab.cells import every_cell
    from prefopt.lab.grid import Place
    from prefopt.lab.page import write_page
    from prefopt.models.identity import model_digest

    page, *_ = write_page(
        list(sitting.found.values()),
        tree.page,
        directory,
        planned=[Place(one.method, one.noise, one.seed) for one in every_cell(tree)],
        chosen=sitting.chosen,
        title=tree.page.title or f"The laboratory {tree.name}",
        model=f"{model.path} (digest {model_digest(model)[:12]})",
        run=os.path.relpath(tree.run),
        made_by=made_by,
    )
    return page
