"""The command line. The only place that sets up logging and decides exit codes."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Console

from prefopt import __version__
from prefopt.config import RunConfig, load_comparison, load_config
from prefopt.config.evaluate import BASE, TUNED
from prefopt.console import Reporter
from prefopt.errors import ConfigError, PrefoptError
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.keys import COMPARISON, STAGES, StageSpec

app = typer.Typer(
    help="Align text-to-image diffusion models with human preferences that are noisy and diverse.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigPath = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML config; see examples/.")]
RunDir = Annotated[str | None, typer.Option("--run-dir", help="Local directory or s3:// prefix [runs/<config name>].")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take only so many prompts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Address of a running Ray cluster.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the engines' own logs.")]


@app.command("run")
def run_command(
    config: ConfigPath,
    run_dir: RunDir = None,
    set_: Overrides = None,
    limit: Limit = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Run all stages, skipping what is done."""
    tree, place = _configure(config, run_dir, set_, limit, ray_address)
    outcomes = _execute(tree, place, list(STAGES), debug)
    report = f"{place}/report.html"
    if json_:
        _print_json(
            {
                "executed": [outcome.name for outcome in outcomes if not outcome.skipped],
                "skipped": [outcome.name for outcome in outcomes if outcome.skipped],
                "report": report,
            }
        )
    elif all(outcome.skipped for outcome in outcomes):
        typer.echo(f"Nothing to do: all stages are up to date. Report: {report}")
    else:
        typer.echo(f"Data card: {place}/data-card.html. Report: {report}")


def _stage_command(stage: str) -> Callable[..., None]:
    def command(
        config: ConfigPath,
        run_dir: RunDir = None,
        set_: Overrides = None,
        limit: Limit = None,
        json_: AsJson = False,
        ray_address: RayAddress = None,
        debug: Debug = False,
    ) -> None:
        tree, place = _configure(config, run_dir, set_, limit, ray_address)
        (outcome,) = _execute(tree, place, [stage], debug)
        if json_:
            _print_json(_stage_record(outcome))
        elif stage == "card":
            typer.echo(f"Data card: {place}/data-card.html")

    return command


def _stage_record(outcome: StageOutcome) -> dict[str, Any]:
    manifest = outcome.output.manifest
    return {
        "stage": outcome.name,
        "key": manifest.key,
        "skipped": outcome.skipped,
        "rows": manifest.rows.model_dump(by_alias=True),
        "manifest": f"{outcome.output.storage.uri}/manifest.json",
    }


for _name, _help in {
    "ingest": "Read preference data into canonical pairs, votes and images.",
    "inject": "Add seeded label noise, and keep the truth aside.",
    "score": "Run reward models; compute soft preferences, the minority metric, latents and visits.",
    "card": "Show what the data hold: ties, duplicates, contradictions, annotators, prompts, suspicious pairs.",
    "train": "Fine-tune the model on the preferences.",
}.items():
    app.command(_name, help=_help)(_stage_command(_name))


@app.command()
def evaluate(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [MODEL]...", help="A YAML config; with --models also further models."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="A B [C]...",
            help="Compare models without a run, B and others with A: hub ids, directories, LoRA weights, runs.",
        ),
    ] = None,
    run_dir: RunDir = None,
    set_: Overrides = None,
    limit: Limit = None,
    export_pairs: Annotated[
        str | None, typer.Option("--export-pairs", metavar="DIR", help="Write blinded pairs for people to judge.")
    ] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="Export at most so many pairs.")] = None,
    repeat_share: Annotated[
        float | None, typer.Option("--repeat-share", min=0.0, max=1.0, help="Export this share of them twice.")
    ] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--prompt-set", help="Export pairs of this prompt set only.")
    ] = None,
    import_votes: Annotated[
        str | None, typer.Option("--import-votes", metavar="FILE", help="Turn votes (CSV) into win rates.")
    ] = None,
    vote_column: Annotated[
        list[str] | None,
        typer.Option("--vote-column", metavar="NAME=COLUMN", help="Where annotator_id, pair_id or choice stands."),
    ] = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Draw images from base and tuned model, or from any models, score them, and write the report; or let people judge
    them."""
    from prefopt.human.command import HumanRequest

    wanted = HumanRequest.of(export_pairs, pairs, repeat_share, prompt_set, import_votes, vote_column)
    configs = [name for name in given or [] if models is None or name.endswith((".yaml", ".yml"))]
    if len(configs) > 1 or (models is None and not configs):
        raise ConfigError(f"Give one config, not {len(configs)}; models to compare follow --models.")
    if models is None:
        tree, place = _configure(configs[0], run_dir, set_, limit, ray_address)
        stage, specs, drawn = "evaluate", STAGES, (BASE, TUNED, *tree.evaluate.models)
    else:
        others = [name for name in given or [] if name not in configs]
        overrides = _overrides(set_, limit, ray_address)
        tree = load_comparison(next(iter(configs), None), [models, *others], overrides)
        place = run_dir or f"runs/compare-{tree.name}"
        stage, specs, drawn = "compare", COMPARISON, (BASE, *tree.evaluate.models)
    if wanted is not None and wanted.votes is not None:
        with Reporter() as reporter:
            chain = Chain(tree, place, start_engine=lambda: None, progress=reporter.progress, stages=specs)
        record, told = wanted.answer(chain.finished(stage, needed_by="--import-votes"), place, tree.evaluate, drawn)
    else:
        (outcome,) = _execute(tree, place, [stage], debug, specs)
        record, told = _stage_record(outcome), [f"Report: {place}/report.html"]
        if wanted is not None:
            record, told = wanted.answer(outcome.output, place, tree.evaluate, drawn)
    if json_:
        _print_json(record)
    else:
        typer.echo("\n".join(told))


@app.command()
def doctor(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="Check what this config needs, too.")] = None,
    run_dir: RunDir = None,
    set_: Overrides = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    start_ray: Annotated[bool, typer.Option("--start-ray", help="Try whether a local Ray starts.")] = False,
    debug: Debug = False,
) -> None:
    """Say in words what is missing here: packages, memory, models, sources, places to write, Ray, GPUs."""
    from prefopt.doctor.examine import examine
    from prefopt.doctor.report import as_json, as_lines, count

    overrides = [*(set_ or []), *([f"cluster.address={ray_address}"] if ray_address else [])]
    checks = list(examine(config, run_dir, overrides, start_ray=start_ray))
    if json_:
        _print_json(as_json(checks))
    else:
        typer.echo("\n".join(as_lines(checks)))
    if count(checks, "problem"):
        raise typer.Exit(ConfigError.exit_code)


@app.command()
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

    tree, place = _configure(config, run_dir, set_, None, None)
    planned = make_plan(tree, place, gpu=gpu, pairs=pairs)
    if json_:
        _print_json(report.as_json(planned))
        return
    console = Console()
    for topic in report.topics(planned):
        if console.is_terminal:
            console.print(report.as_table(topic))
        else:
            typer.echo("\n".join([*report.as_lines(topic), ""]))
    typer.echo("\n".join(report.sentences(planned)))


@app.command()
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
        _print_json(made.record)
    else:
        typer.echo("\n".join(made.lines))


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `prefopt` command."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("prefopt").setLevel(logging.INFO if debug else logging.WARNING)
    try:
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


def _configure(
    path: str, run_dir: str | None, overrides: list[str] | None, limit: int | None, ray_address: str | None
) -> tuple[RunConfig, str]:
    config = load_config(path, _overrides(overrides, limit, ray_address))
    return config, run_dir or f"runs/{config.name}"


def _overrides(overrides: list[str] | None, limit: int | None, ray_address: str | None) -> list[str]:
    extra = [f"limit={limit}"] if limit else []
    extra += [f"cluster.address={ray_address}"] if ray_address else []
    return [*(overrides or []), *extra]


def _execute(
    config: RunConfig, run_dir: str, stages: list[str], debug: bool, specs: Mapping[str, StageSpec] = STAGES
) -> list[StageOutcome]:
    def start_engine() -> None:
        from prefopt.distributed.session import start_ray

        start_ray(config.cluster, verbose=debug)

    with Reporter() as reporter:
        chain = Chain(config, run_dir, start_engine=start_engine, progress=reporter.progress, stages=specs)
        outcomes = []
        try:
            for stage in stages:
                reporter.begin(stage)
                (outcome,) = chain.run([stage])
                reporter.end(outcome)
                outcomes.append(outcome)
        finally:
            if "ray" in sys.modules:
                from prefopt.distributed.session import stop_ray

                stop_ray()
    return outcomes


def _tell(record: dict[str, Any], told: list[str], json_: bool) -> None:
    if json_:
        _print_json(record)
    else:
        typer.echo("\n".join(told))


def _print_json(value: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        typer.echo(json.dumps(value, sort_keys=True))
