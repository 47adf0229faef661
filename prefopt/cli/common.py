"""What the commands share: options, the config with its overrides, the chain that is run, JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from prefopt.config import RunConfig, load_config, load_text
from prefopt.console import Reporter
from prefopt.platform.configs import config_text
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.keys import STAGES, StageSpec

ConfigPath = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML config, a path or s3:// URI; see examples/.")]
RunDir = Annotated[str | None, typer.Option("--run-dir", help="Local directory or s3:// prefix [runs/<config name>].")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config key.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take only so many prompts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Address of a running Ray cluster.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the engines' own logs.")]


def configure(
    path: str, run_dir: str | None, overrides: list[str] | None, limit: int | None, ray_address: str | None
) -> tuple[RunConfig, str]:
    """The config with what the options change, and the run directory."""
    changes = all_overrides(overrides, limit, ray_address)
    config = load_text(config_text(path), path, changes) if "://" in path else load_config(path, changes)
    return config, run_dir or f"runs/{config.name}"


def all_overrides(overrides: list[str] | None, limit: int | None, ray_address: str | None) -> list[str]:
    """What --set gives, and the options that stand for a config key."""
    extra = [f"limit={limit}"] if limit else []
    extra += [f"cluster.address={ray_address}"] if ray_address else []
    return [*(overrides or []), *extra]


@contextmanager
def engine(config: RunConfig, debug: bool) -> Iterator[Callable[[], None]]:
    """Gives what starts the engine, for the first stage that needs it; a Ray that it started ends with the block."""

    def start() -> None:
        if config.cluster.engine == "process":
            return
        from prefopt.distributed.session import start_ray

        start_ray(config.cluster, verbose=debug)

    try:
        yield start
    finally:
        if config.cluster.engine == "ray" and "ray" in sys.modules:
            from prefopt.distributed.session import stop_ray

            stop_ray()


def execute(
    config: RunConfig, run_dir: str, stages: list[str], debug: bool, specs: Mapping[str, StageSpec] = STAGES
) -> list[StageOutcome]:
    """Run stages, showing how they go. Ray is started if one of them needs it, and ended."""
    with Reporter() as reporter, engine(config, debug) as start:
        chain = Chain(config, run_dir, start_engine=start, progress=reporter.progress, stages=specs)
        outcomes = []
        for stage in stages:
            reporter.begin(stage)
            (outcome,) = chain.run([stage])
            reporter.end(outcome)
            outcomes.append(outcome)
    return outcomes


def stage_record(outcome: StageOutcome) -> dict[str, Any]:
    """What --json prints for one stage."""
    manifest = outcome.output.manifest
    return {
        "stage": outcome.name,
        "key": manifest.key,
        "skipped": outcome.skipped,
        "rows": manifest.rows.model_dump(by_alias=True),
        "manifest": f"{outcome.output.storage.uri}/manifest.json",
    }


def print_json(value: dict[str, Any]) -> None:
    """One object on one line. A reader that is gone is no error."""
    with suppress(BrokenPipeError):
        typer.echo(json.dumps(value, sort_keys=True))
