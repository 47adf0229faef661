"""`prefopt submit kfp` and `prefopt schedule`: pipelines on Kubeflow Pipelines."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from prefopt.cli.common import AsJson, ConfigPath, Debug, Overrides, configure, print_json
from prefopt.config import RunConfig, dump_config
from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError
from prefopt.platform.kubeflow.cron import EXAMPLE, checked_cron
from prefopt.platform.kubeflow.package import Package, read_package
from prefopt.platform.places import check_shared
from prefopt.platform.variants import planned_variants

if TYPE_CHECKING:
    from prefopt.platform.kubeflow.client import Kubeflow, Work

EXPERIMENT = "prefopt"
_DIGITS, _PLACE_DIGITS = 12, 6

Host = Annotated[
    str, typer.Option("--host", metavar="URL", envvar="KF_PIPELINES_ENDPOINT", help="Of the Kubeflow Pipelines API.")
]
SharedDir = Annotated[
    str | None, typer.Option("--run-dir", metavar="URI", help="An s3:// prefix, or a path that all pods share. Needed.")
]
Experiment = Annotated[str, typer.Option("--experiment", metavar="NAME", help="Groups runs in the UI.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NS", help="Yours, where KFP serves several users.")
]
ServiceAccount = Annotated[
    str | None, typer.Option("--service-account", metavar="NAME", help="Kubernetes account of the run's pods.")
]
Image = Annotated[
    str | None, typer.Option("--image", metavar="REF", help="Where nodes pull prefopt's image, if by another name.")
]
TokenFile = Annotated[
    str | None, typer.Option("--token-file", metavar="FILE", help="Holds a token; else KF_PIPELINES_TOKEN may.")
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A further parameter of the pipeline, in YAML."),
]


def submit_kfp(
    config: ConfigPath,
    host: Host,
    pipeline: Annotated[
        str, typer.Option("--pipeline", metavar="NAME", help="align, retrain, or the path of a compiled pipeline.")
    ] = "align",
    run_dir: SharedDir = None,
    set_: Overrides = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="'NAME: KEY=VALUE ...'", help="A variant of the config; repeat it for more."),
    ] = None,
    param: Params = None,
    image: Image = None,
    experiment: Experiment = EXPERIMENT,
    namespace: Namespace = None,
    service_account: ServiceAccount = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the run; by default from its content.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the run to its end.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long --wait waits.")
    ] = None,
    token_file: TokenFile = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a pipeline on Kubeflow Pipelines, or watch the same run where it has not ended."""
    from prefopt.platform.kubeflow.client import RunError, connect

    if timeout is not None and not wait:
        raise ConfigError("--timeout says how long to wait: give --wait, too.")
    package = read_package(pipeline, image)
    tree, parameters = _parameters(config, run_dir, set_, variant, param, package)
    content = canonical_hash([package.version, parameters])[:_DIGITS]
    client = connect(host, namespace, token_file)
    work = _work(client, package, parameters, experiment, service_account)
    run = client.start(replace(work, name=name or f"{package.pipeline}-{tree.name}-{content}"))
    record = {"run_id": run.run_id, "url": run.url, "created": run.created, "version": package.version}
    if not json_:
        typer.echo(f"Run {run.run_id}: {run.url}" if run.created else f"Runs already, {run.run_id}: {run.url}")
    state = run.state
    try:
        if wait:
            state = client.wait(run.run_id, timeout, tell=lambda state: typer.echo(f"{run.run_id}: {state}", err=True))
    except RunError as error:
        state = error.state
        raise
    finally:
        if json_:
            print_json({**record, "state": state})


def schedule(
    config: ConfigPath,
    host: Host,
    cron: Annotated[str, typer.Option("--cron", metavar="CRON", help=f"Six fields, seconds first: '{EXAMPLE}'.")],
    pipeline: Annotated[
        str, typer.Option("--pipeline", metavar="NAME", help="retrain, or the path of a compiled pipeline.")
    ] = "retrain",
    run_dir: SharedDir = None,
    set_: Overrides = None,
    param: Params = None,
    image: Image = None,
    experiment: Experiment = EXPERIMENT,
    namespace: Namespace = None,
    service_account: ServiceAccount = None,
    name: Annotated[str | None, typer.Option("--name", help="By default from config and run directory.")] = None,
    token_file: TokenFile = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Retrain by a schedule of Kubeflow Pipelines; again with other content, it replaces the schedule."""
    from prefopt.platform.kubeflow.client import connect
    from prefopt.platform.kubeflow.schedule import schedule_runs

    times, package = checked_cron(cron), read_package(pipeline, image)
    tree, parameters = _parameters(config, run_dir, set_, None, param, package)
    place = hashlib.sha256(str(run_dir).encode()).hexdigest()[:_PLACE_DIGITS]
    client = connect(host, namespace, token_file)
    work = _work(client, package, parameters, experiment, service_account)
    work = replace(work, name=name or f"{package.pipeline}-{tree.name}-{place}")
    made = schedule_runs(client, work, times)
    if json_:
        told = {"recurring_run_id": made.recurring_run_id, "url": made.url, "action": made.action}
        print_json({**told, "cron": times, "version": package.version})
        return
    said = {
        "created": f"Scheduled {work.name} at {times!r}",
        "replaced": f"Replaced the schedule {work.name}, now at {times!r}",
        "enabled": f"Enabled the schedule {work.name} again, at {times!r}",
        "kept": f"Nothing to do: {work.name} is scheduled like this already",
    }
    typer.echo(f"{said[made.action]}: {made.url}")


def _work(
    client: "Kubeflow",
    package: Package,
    parameters: Mapping[str, Any],
    experiment: str,
    service_account: str | None,
) -> "Work":
    from prefopt.platform.kubeflow.client import Work

    version = client.version(package)
    did = "uploaded" if version.uploaded else "is there"
    typer.echo(f"{package.pipeline}: version {version.name} {did}", err=True)
    return Work("", version, parameters, experiment, service_account)


def _parameters(
    path: str,
    run_dir: str | None,
    overrides: list[str] | None,
    variants: list[str] | None,
    further: list[str] | None,
    package: Package,
) -> tuple[RunConfig, dict[str, Any]]:
    """The config, checked with all overrides, and what the pipeline is started with, checked against the package."""
    if not run_dir:
        raise ConfigError("--run-dir is missing: pods need one that they all read and write, such as an s3:// prefix.")
    tree, _ = configure(path, run_dir, overrides, None, None)
    check_shared(tree, run_dir)
    text, split = dump_config(tree), _variants(variants or [])
    planned_variants(text, run_dir, split)
    parameters: dict[str, Any] = {"config": text, "run_dir": run_dir}
    if split or "variants" in package.parameters:
        parameters["variants"] = split
    parameters |= dict(_parameter(text) for text in further or [])
    package.check(parameters)
    return tree, parameters


def _variants(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, changes in map(_variant, given):
        if name in found:
            raise ConfigError(f"--variant {name}: two variants have this name.")
        found[name] = changes
    return found


def _variant(given: str) -> tuple[str, list[str]]:
    name, separator, changes = given.partition(":")
    try:
        words = shlex.split(changes)
    except ValueError as error:
        raise ConfigError(f"--variant {given!r}: {error}; quote it as in a shell.") from None
    if not separator or not name.strip():
        raise ConfigError(
            f"--variant {given!r}: write 'NAME: KEY=VALUE ...', for example 'dpo: train.objective.name=dpo'."
        )
    return name.strip(), words


def _parameter(given: str) -> tuple[str, Any]:
    name, separator, text = given.partition("=")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        separator = ""
    if not separator or not name:
        raise ConfigError(f"--param {given!r}: write NAME=VALUE with a value in YAML, for example --param epochs=3.")
    return name, value
