"""Commands that look and change nothing of a run: doctor, plan, leaderboard, verify, version."""

import json
from typing import Annotated

import typer
from rich.console import Console

from prefopt import __version__
from prefopt.cli.common import (
    AsJson,
    ConfigPath,
    Debug,
    Overrides,
    RayAddress,
    RunDir,
    configure,
    engine,
    print_json,
)
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError


def doctor(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="Check what this config needs, too.")] = None,
    run_dir: RunDir = None,
    set_: Overrides = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    start_ray: Annotated[bool, typer.Option("--start-ray", help="Try whether a local Ray starts.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Look at the cluster of cluster.submit by a job.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="With --cluster: of Kubeflow Pipelines, too.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="With --host: yours there.")] = None,
    token_file: Annotated[str | None, typer.Option("--token-file", help="With --host: holds its token.")] = None,
    probe: Annotated[str | None, typer.Option("--probe", hidden=True)] = None,
    debug: Debug = False,
) -> None:
    """Say in words what is missing here: packages, memory, models, sources, places to write, Ray, GPUs."""
    from prefopt.doctor.examine import examine
    from prefopt.doctor.report import as_json, as_lines, count

    if probe and config:
        _probe(config, run_dir, set_, probe, debug)
        return
    overrides = [*(set_ or []), *([f"cluster.address={ray_address}"] if ray_address else [])]
    if cluster:
        if config is None:
            raise ConfigError("--cluster needs a CONFIG, whose cluster.submit names the cluster.")
        from prefopt.platform.checkup import Pipelines, check_up

        tree, place = configure(config, run_dir, overrides, None, None)
        pipelines = Pipelines(host, namespace, token_file) if host else None
        checks = list(check_up(tree, place, pipelines, lambda line: typer.echo(line, err=True)))
    else:
        checks = list(examine(config, run_dir, overrides, start_ray=start_ray))
    if json_:
        print_json(as_json(checks))
    else:
        typer.echo("\n".join(as_lines(checks)))
    if count(checks, "problem"):
        raise typer.Exit(ConfigError.exit_code)


def _probe(config: str, run_dir: str | None, set_: list[str] | None, answer: str, debug: bool) -> None:
    """Look at the cluster in which this process is a job, and put what is found where the submitter reads it."""
    from prefopt.doctor.probe import probe
    from prefopt.doctor.report import as_json

    tree, place = configure(config, run_dir, set_, None, None)
    with engine(tree, debug) as start:
        start()
        found = list(probe({"run directory": place, "store": tree.store}))
    directory, _, name = answer.rpartition("/")
    Storage(directory).write_bytes(name, json.dumps(as_json(found)).encode())


def plan(
    config: ConfigPath,
    run_dir: RunDir = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Plan for this GPU, such as A100-80GB, or for cpu.")] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="How many pairs the sources hold.")] = None,
    set_: Overrides = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Dry run: work, bytes, memory and hours of every stage. Loads no weights and starts no Ray."""
    from prefopt.planning import report
    from prefopt.planning.plan import make_plan

    tree, place = configure(config, run_dir, set_, None, None)
    planned = make_plan(tree, place, gpu=gpu, pairs=pairs)
    if json_:
        print_json(report.as_json(planned))
        return
    console = Console()
    for topic in report.topics(planned):
        if console.is_terminal:
            console.print(report.as_table(topic))
        else:
            typer.echo("\n".join([*report.as_lines(topic), ""]))
    typer.echo("\n".join(report.sentences(planned)))


def leaderboard(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Directories of finished runs or comparisons.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where to write, local or s3://.")] = ".",
    group: Annotated[bool, typer.Option("--group", help="Sum up runs that differ in seeds alone.")] = False,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put the models of several finished runs into one table and one page, where they may be compared."""
    from prefopt.leaderboard.board import make_leaderboard

    made = make_leaderboard(runs, out, group=group)
    if json_:
        print_json(made.record)
    else:
        typer.echo("\n".join(made.lines))


def verify(
    directory: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A run directory.")], debug: Debug = False
) -> None:
    """Re-hash every file that the manifests of a run list."""
    from prefopt.data import manifest as manifests
    from prefopt.data.storage import Storage

    run = Storage(directory)
    found = [name for name in run.files() if name.endswith(f"/{manifests.MANIFEST}") and name.count("/") == 2]
    if not found:
        raise ConfigError(f"{directory} holds no finished stage. Give a run directory, such as runs/quickstart.")
    problems = []
    for name in found:
        stage = name.removesuffix(f"/{manifests.MANIFEST}")
        problems += [f"{stage}/{line}" for line in manifests.verify(run.child(stage))]
    for line in problems:
        typer.echo(line)
    typer.echo(f"{len(found)} manifests checked, {len(problems)} files differ.")
    if problems:
        raise typer.Exit(1)


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
