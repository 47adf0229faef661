"""Where the figures of training go besides steps.jsonl: TensorBoard files, MLflow, Weights & Biases.

The first worker's alone. Nothing that may hold a secret is sent or logged: of the config only its name, the
objective and plain numbers.
"""

import importlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlsplit

from prefopt.config import RunConfig
from prefopt.config.train import TrackerConfig
from prefopt.data.storage import Storage
from prefopt.distributed.training.lenient import Lenient
from prefopt.errors import ConfigError

TENSORBOARD = "tensorboard"
_RUNS = "trackers.json"
_EXPERIMENT = "prefopt"
_STEP = "step"


class Tracker(Protocol):
    """Takes the figures of steps."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of a step, counted from 1."""
        ...

    def rolled_back(self, done: int) -> None:
        """The steps after `done` will come again."""
        ...

    def save(self) -> None:
        """Bring what was taken to where it stays; called with each checkpoint."""
        ...

    def close(self) -> None:
        """After the last step; nothing is taken any more."""
        ...


class Trackers:
    """All configured trackers as one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell each tracker."""
        for tracker in self._trackers:
            tracker.log(step, figures)

    def rolled_back(self, done: int) -> None:
        """Tell each tracker that the steps after `done` will come again."""
        for tracker in self._trackers:
            tracker.rolled_back(done)

    def save(self) -> None:
        """Let each tracker save."""
        for tracker in self._trackers:
            tracker.save()

    def close(self) -> None:
        """Close each tracker, whatever another one's end brings."""
        with ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close)


def open_trackers(config: RunConfig, logs: Storage, done: int, fingerprint: str) -> Trackers:
    """The configured trackers of a run, told by its fingerprint, of which `done` steps are done.

    A resumed run goes on in the same MLflow and Weights & Biases run, which `logs` remembers; one that begins has
    runs of its own. Raises ConfigError if a package is not installed.
    """
    wanted, trackers = config.train.trackers, list[Tracker]()
    runs = _Runs(logs, fingerprint, resumed=done > 0)
    check_trackers(wanted)
    if wanted.tensorboard:
        trackers.append(TensorBoard(logs.child(f"{TENSORBOARD}/{fingerprint[:12]}"), done))
    if wanted.mlflow is not None:
        trackers.append(Mlflow(config, runs))
    if wanted.wandb is not None:
        trackers.append(WeightsAndBiases(config, runs))
    return Trackers(trackers)


def check_trackers(config: TrackerConfig) -> None:
    """Raise ConfigError if a configured tracker's package is not installed, or if a URI holds a password."""
    if config.tensorboard:
        _package("tensorboardX", "train.trackers.tensorboard", "tensorboardX")
    if config.mlflow is not None:
        _package("mlflow", "train.trackers.mlflow", "prefopt[mlflow]")
        if "@" in urlsplit(config.mlflow).netloc:
            raise ConfigError(
                "train.trackers.mlflow holds a user or a password, which configs and logs would show: set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment instead."
            )
    if config.wandb is not None:
        _package("wandb", "train.trackers.wandb", "prefopt[wandb]")


class TensorBoard:
    """Event files below logs/. For an object store they are written locally and copied.

    The writer has a thread of its own: only `close` guarantees that the last figures are in the files. Files that
    cannot be written do not end training.
    """

    def __init__(self, place: Storage, done: int) -> None:
        """Hides what an interrupted run wrote after `done` steps."""
        module = _package("tensorboardX", "train.trackers.tensorboard", "tensorboardX")
        self._place = place
        self._scratch = None if place.local else tempfile.TemporaryDirectory(prefix="prefopt-tensorboard-")
        self._directory = Path(self._scratch.name if self._scratch else place.path(""))
        self._lenient = Lenient("TensorBoard's files")
        self._opened = 0
        self._open: Callable[..., Any] = module.SummaryWriter
        self._writer = self._writer_after(done)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One scalar per figure."""
        with self._lenient():
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def rolled_back(self, done: int) -> None:
        """Hide the steps after `done` as they were."""
        with self._lenient():
            self._writer.close()
            self._writer = self._writer_after(done)

    def save(self) -> None:
        """Flush, and copy to an object store."""
        with self._lenient():
            self._writer.flush()
            self._copy()

    def close(self) -> None:
        """Write what is left, copy it, and close."""
        with self._lenient():
            self._writer.close()
            self._copy()
        if self._scratch:
            self._scratch.cleanup()

    def _writer_after(self, done: int) -> Any:
        """A new file, which hides what older ones have after `done` steps. Two may be opened in one second."""
        self._opened += 1
        return self._open(str(self._directory), purge_step=done + 1, filename_suffix=f".{self._opened}")

    def _copy(self) -> None:
        if self._scratch:
            for path in sorted(p for p in self._directory.rglob("*") if p.is_file()):
                self._place.write_bytes(path.relative_to(self._directory).as_posix(), path.read_bytes())


class Mlflow:
    """A run on an MLflow tracking server. If the server fails, training goes on without it."""

    def __init__(self, config: RunConfig, runs: "_Runs") -> None:
        module = _package("mlflow", "train.trackers.mlflow", "prefopt[mlflow]")
        self._metric: Any = module.entities.Metric
        self._failure: type[Exception] = module.exceptions.MlflowException
        self._client: Any = module.MlflowClient(tracking_uri=config.train.trackers.mlflow)
        self._run: str | None = None
        try:
            self._run = runs.known("mlflow") or self._start(config, runs, module)
        except self._failure as error:
            self._give_up(error)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One batch per step."""
        if self._run is None:
            return
        now = int(1000 * time.time())
        metrics = [self._metric(name, value, now, step) for name, value in figures.items()]
        try:
            self._client.log_batch(self._run, metrics=metrics)
        except self._failure as error:
            self._give_up(error)

    def rolled_back(self, done: int) -> None:
        """Nothing: a step that comes again is one more point."""

    def save(self) -> None:
        """Nothing: the server has it."""

    def close(self) -> None:
        """End the run."""
        if self._run is None:
            return
        try:
            self._client.set_terminated(self._run)
        except self._failure as error:
            self._give_up(error)

    def _start(self, config: RunConfig, runs: "_Runs", module: ModuleType) -> str:
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT)
        run = str(self._client.create_run(experiment, run_name=config.name).info.run_id)
        runs.remember("mlflow", run)
        parameters = [module.entities.Param(name, str(value)) for name, value in _parameters(config).items()]
        self._client.log_batch(run, params=parameters)
        return run

    def _give_up(self, error: Exception) -> None:
        """The error's text may name the server with a password, so only its kind is said."""
        self._run = None
        _warn("MLflow", error)


class WeightsAndBiases:
    """A run of a project at Weights & Biases. The key comes from its own login, never from here.

    It drops rows that do not come in order. The step is therefore a figure like the others, over which they are
    drawn: steps that come again after a resume or a roll-back are kept.
    """

    def __init__(self, config: RunConfig, runs: "_Runs") -> None:
        module = _package("wandb", "train.trackers.wandb", "prefopt[wandb]")
        self._scratch = tempfile.TemporaryDirectory(prefix="prefopt-wandb-")
        known = runs.known("wandb")
        try:
            self._run: Any = module.init(
                project=config.train.trackers.wandb,
                name=config.name,
                id=known,
                resume="allow",
                dir=self._scratch.name,
                config=_parameters(config),
            )
        except module.errors.Error as error:
            raise ConfigError(
                f"Weights & Biases did not start a run ({type(error).__name__}): run `wandb login`, set"
                " WANDB_MODE=offline, or take train.trackers.wandb out of the config."
            ) from None
        if known is None:
            runs.remember("wandb", str(self._run.id))
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One row per step."""
        self._run.log({**figures, _STEP: step})

    def rolled_back(self, done: int) -> None:
        """Nothing: a step that comes again is one more row."""

    def save(self) -> None:
        """Nothing: it is sent as it comes."""

    def close(self) -> None:
        """End the run."""
        self._run.finish()
        self._scratch.cleanup()


def _package(name: str, field: str, install: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"{field} needs the package {name}, which is not installed here: run `pip install '{install}'`, or take"
            f" {field} out of the config."
        ) from None


def _parameters(config: RunConfig) -> dict[str, str | int | float]:
    train = config.train
    plain = {"steps", "global_batch", "micro_batch", "method", "precision", "reference", "zero"}
    chosen: dict[str, Any] = {
        "seed": config.seed,
        **{name: getattr(train, name) for name in sorted(plain)},
        **{f"objective.{name}": value for name, value in train.objective.model_dump(mode="json").items()},
        **{f"optimizer.{name}": value for name, value in train.optimizer.model_dump(mode="json").items()},
    }
    return {name: value for name, value in chosen.items() if isinstance(value, str | int | float)}


class _Runs:
    """Which runs of MLflow and Weights & Biases belong to a training run, in its logs. Another config's are not its."""

    def __init__(self, logs: Storage, fingerprint: str, *, resumed: bool) -> None:
        self._logs, self._fingerprint, self._resumed = logs, fingerprint, resumed
        self._lenient = Lenient("The trackers' runs")

    def known(self, tracker: str) -> str | None:
        """The run that a resumed training goes on in."""
        found = self._read().get(tracker, {}).get(self._fingerprint) if self._resumed else None
        return str(found) if found else None

    def remember(self, tracker: str, run: str) -> None:
        """The run that later resumes go on in."""
        runs = self._read()
        runs[tracker] = {**runs.get(tracker, {}), self._fingerprint: run}
        with self._lenient():
            self._logs.write_bytes(_RUNS, json.dumps(runs, sort_keys=True).encode())

    def _read(self) -> dict[str, dict[str, str]]:
        with self._lenient():
            if self._logs.size(_RUNS) is not None:
                found = json.loads(self._logs.read_bytes(_RUNS))
                return {name: runs for name, runs in found.items() if isinstance(runs, dict)}
        return {}


def _warn(tracker: str, error: Exception) -> None:
    logging.getLogger(__name__).warning(
        "%s failed (%s): training goes on without it; steps.jsonl has all figures.", tracker, type(error).__name__
    )
