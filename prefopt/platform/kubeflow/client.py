"""Kubeflow Pipelines: pipelines and their versions, and runs. kfp is imported by `connect`."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefopt import __version__
from prefopt.config.urls import check_url
from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError, PrefoptError
from prefopt.platform.kubeflow.package import Package

if TYPE_CHECKING:
    from prefopt.platform.kubeflow.session import Session

TOKEN = "KF_PIPELINES_TOKEN"
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"
"""As in kfp: where pods find the token of their service account."""
SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "SKIPPED", "FAILED", "CANCELED")
EVERY = 5.0
"""Seconds between two looks at a run."""
MARK = "Made by prefopt"
"""Begins the description of whatever prefopt makes."""
_HEX = 12


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool
    """Now; else it was there."""

    @property
    def reference(self) -> dict[str, str]:
        """As runs and recurring runs name it."""
        return {"pipeline_id": self.pipeline_id, "pipeline_version_id": self.version_id}


@dataclass(frozen=True)
class Work:
    """What runs are to do. Its content decides whether two are the same."""

    name: str
    """Shown in the UI, and looked for by a second submission."""
    version: Version
    parameters: Mapping[str, Any]
    experiment: str
    service_account: str | None = None

    def description(self, *more: Any) -> str:
        """A sentence with the digest of the content, by which a second submission knows the first."""
        content = [self.version.name, dict(self.parameters), self.experiment, self.service_account, *more]
        return f"{MARK} {__version__}, content {canonical_hash(content)[:_HEX]}."

    def body(self, experiment_id: str, description: str) -> dict[str, Any]:
        """What the request for a run or a recurring run holds in any case."""
        return {
            "display_name": self.name,
            "description": description,
            "experiment_id": experiment_id,
            "pipeline_version_reference": self.version.reference,
            "runtime_config": {"parameters": dict(self.parameters)},
            **({"service_account": self.service_account} if self.service_account else {}),
        }


@dataclass(frozen=True)
class Run:
    """A run on the server."""

    run_id: str
    url: str
    state: str
    created: bool
    """Now; else it was there and had not ended."""


class RunError(PrefoptError):
    """A run did not succeed, or its end was not seen. `state` is the last one known."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


def connect(host: str, namespace: str | None, token_file: str | None) -> "Kubeflow":
    """A client of the host, with the token of a file, else of KF_PIPELINES_TOKEN, else of the pod's service account.

    Raises ConfigError for a bad address or token or without kfp, KfpError if the host cannot be asked.
    """
    try:
        check_url("--host", host)
    except ValueError as error:
        raise ConfigError(f"{error}.") from None
    if "@" in host:
        raise ConfigError("--host holds a user or password: give a token by --token-file instead.")
    try:
        from prefopt.platform.kubeflow.session import Session, checked_token
    except ImportError as error:
        raise ConfigError(
            f"Kubeflow Pipelines needs the package {error.name}: pip install 'prefopt[kubeflow]'."
        ) from None
    token = None if token_file else os.environ.get(TOKEN)
    if token is not None:
        token = checked_token(token.strip(), TOKEN)
    else:
        token_file = token_file or os.environ.get(TOKEN_PATH)
    return Kubeflow(Session(host.rstrip("/"), namespace, token, token_file))


class Kubeflow:
    """What prefopt does with a KFP host. Whatever is there already is used and not made again."""

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.client = session.client
        self.place: dict[str, str] = {"namespace": session.namespace} if session.namespace else {}

    def version(self, package: Package) -> Version:
        """The package on the server: uploaded unless a version of its content is there."""
        pipelines, ask = self.client.pipelines, self.session
        pipeline, _ = ask.find_or_create(
            f"pipeline {package.pipeline}",
            lambda: first(
                ask.all(
                    "listing pipelines",
                    pipelines.pipeline_service_list_pipelines,
                    "pipelines",
                    package.pipeline,
                    **self.place,
                )
            ),
            pipelines.pipeline_service_create_pipeline,
            {"name": package.pipeline, "display_name": package.pipeline, **self.place},
        )
        version, uploaded = ask.find_or_create(
            f"version {package.version} of pipeline {package.pipeline}",
            lambda: first(
                ask.all(
                    "listing versions",
                    pipelines.pipeline_service_list_pipeline_versions,
                    "pipeline_versions",
                    package.version,
                    pipeline_id=pipeline.pipeline_id,
                )
            ),
            self._upload,
            package,
            pipeline.pipeline_id,
        )
        return Version(pipeline.pipeline_id, version.pipeline_version_id, package.version, uploaded)

    def start(self, work: Work) -> Run:
        """Start a run, or give the one of that name and content which has not ended."""
        runs, ask, description = self.client.runs, self.session, work.description()
        experiment = self.experiment(work.experiment)

        def named() -> list[Any]:
            return ask.all("listing runs", runs.run_service_list_runs, "runs", work.name, experiment_id=experiment)

        before = {run.run_id: run for run in named()}
        for run in before.values():
            if run.state in ENDED:
                continue
            if run.description != description:
                raise ConfigError(
                    f"A run named {work.name!r} with other content is not at its end: {self._url(run)}. Give another"
                    " --name, or end that run."
                )
            return Run(run.run_id, self._url(run), _state(run), created=False)
        run, _ = ask.find_or_create(
            f"starting run {work.name}",
            lambda: first([run for run in named() if run.run_id not in before]),
            runs.run_service_create_run,
            work.body(experiment, description),
        )
        return Run(run.run_id, self._url(run), _state(run), created=True)

    def wait(self, run_id: str, timeout: float | None = None, tell: Callable[[str], object] = str) -> str:
        """Watch a run to its end, at most for so many seconds; its state, each change of which goes to `tell`.

        Raises RunError if it did not succeed, or has not ended in time; it goes on then."""
        runs, told, begun = self.client.runs, "", time.monotonic()
        while True:
            try:
                run = self.session.ask(f"watching run {run_id}", runs.run_service_get_run, run_id)
            except PrefoptError as error:
                raise RunError(f"{error} The run itself goes on: {self.client.page('runs', run_id)}", told) from None
            state = _state(run)
            if state != told:
                tell(state)
                told = state
            if state in (SUCCEEDED, "SKIPPED"):
                return state
            if state in ENDED:
                raise RunError(f"Run {run_id} ended as {state}: {_reason(run)}. See {self._url(run)}", state)
            if timeout is not None and time.monotonic() - begun > timeout:
                raise RunError(
                    f"Run {run_id} is {state} after {timeout:g} s, and goes on: {self._url(run)}. The same command"
                    " watches it again.",
                    state,
                )
            time.sleep(EVERY)

    def _upload(self, package: Package, pipeline_id: str, **limits: Any) -> Any:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, f"{package.version}.yaml")
            file.write_bytes(package.content)
            return self.client.pipeline_uploads.upload_pipeline_version(
                str(file), name=package.version, pipelineid=pipeline_id, **limits
            )

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is made unless it is there."""
        experiments, ask = self.client.experiments, self.session
        listing = experiments.experiment_service_list_experiments
        found, _ = ask.find_or_create(
            f"experiment {name}",
            lambda: first(ask.all("listing experiments", listing, "experiments", name, **self.place)),
            experiments.experiment_service_create_experiment,
            {"display_name": name, **self.place},
        )
        return str(found.experiment_id)

    def _url(self, run: Any) -> str:
        return str(self.client.page("runs", run.run_id))


def first(found: list[Any]) -> Any:
    """The first one, or None."""
    return found[0] if found else None


def _state(run: Any) -> str:
    return str(run.state or "PENDING")


def _reason(run: Any) -> str:
    """Why a run failed, as far as the server says: its own error, and the tasks that failed."""
    tasks = run.run_details.task_details if run.run_details and run.run_details.task_details else []
    failed = [
        f"{task.display_name}{f': {task.error.message}' if task.error and task.error.message else ''}"
        for task in tasks
        if task.state == "FAILED" and task.display_name
    ]
    said = [run.error.message] if run.error and run.error.message else []
    return " ".join("; ".join([*said, *failed]).split())[:1000].rstrip(".") or "the server gives no reason"
