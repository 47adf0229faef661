"""`prefopt lab`."""

import os
import shlex
from pathlib import Path
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
        Path | None, typer.Option("--page", help="Directory for the page and its pictures [the run directory].")
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Run a grid of objectives, label noises and seeds, or what is left of it, and compare what they gave."""
    from prefopt.lab.lab import Lab

    tree = load_lab(config, set_ or [])
    address = [f"cluster.address={ray_address}"] if ray_address else []
    run = load_config(tree.run, ["cluster.engine=ray", *address])
    given = {"cells": cells, "minutes": minutes}
    budget = tree.budget.model_copy(update={name: most for name, most in given.items() if most is not None})
    place = run_dir or f"runs/{tree.name}"
    with Reporter() as reporter, engine(run, debug) as start:
        reporter.begin("lab")
        sitting = Lab(tree, place, reporter).run(budget, start)
    directory = page or (Path(place) if "://" not in place else None)
    written: Path | None = None
    if sitting.found and directory:
        command = ["prefopt", "lab", config, *(part for one in set_ or [] for part in ("--set", one))]
        command += ["--page", str(page)] if page else []
        written = _write(tree, run.model, sitting, directory, shlex.join(command))
    if json_:
        told = {"cells": sitting.cells, "done": len(sitting.found), "failed": len(sitting.failed)}
        print_json({**told, "chosen": sitting.chosen, "page": str(written) if written else None})
    else:
        told_page = f" Page: {written}" if written else ""
        typer.echo(f"{len(sitting.found)} of {sitting.cells} cells are done.{told_page}")
    if sitting.failed:
        raise WorkerError(
            f"{len(sitting.failed)} cells failed, as told above; all others are kept. Run the same command again when"
            " their cause is mended."
        )


def _write(tree: LabConfig, model: ModelConfig, sitting: "Sitting", directory: Path, made_by: str) -> Path:
    from prefopt.lab.page import write_page
    from prefopt.models.identity import model_digest

    page, *_ = write_page(
        list(sitting.found.values()),
        tree.page,
        directory,
        planned=list(tree.methods),
        chosen=sitting.chosen,
        title=tree.page.title or f"The laboratory {tree.name}",
        model=f"{model.path} (digest {model_digest(model)[:12]})",
        run=os.path.relpath(tree.run),
        made_by=made_by,
    )
    return page
