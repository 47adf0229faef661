"""A stage for a pipeline: it runs where its config says, and its result is read from the run directory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefopt.config import RunConfig, dump_config
from prefopt.config.kubernetes import KubernetesConfig
from prefopt.data.manifest import MANIFEST, Manifest
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError
from prefopt.platform.configs import given_config
from prefopt.platform.here import HereSubmitter, answer, say
from prefopt.platform.image import check_ray_version
from prefopt.platform.jobs import Job, JobError, Submitter, job_arguments, job_name, place_config
from prefopt.platform.kubernetes.rayjob import RayJobSubmitter
from prefopt.platform.places import check_shared, settled
from prefopt.platform.ray_jobs import RayJobsSubmitter
from prefopt.stages.chain import Chain
from prefopt.stages.keys import NIGHT, STAGES


@dataclass(frozen=True)
class DoneStage:
    """A finished stage of a run."""

    skipped: bool
    """Whether it was finished before."""
    storage: Storage
    manifest: Manifest

    @property
    def uri(self) -> str:
        """Of its directory."""
        return self.storage.uri

    @property
    def record(self) -> dict[str, Any]:
        """What an artifact of a pipeline tells of it: where it lies, stage, key, rows, and all that was counted."""
        manifest = self.manifest
        return {
            "uri": self.uri,
            "stage": manifest.stage,
            "key": manifest.key,
            "skipped": self.skipped,
            "manifest": f"{self.uri}/{MANIFEST}",
            "unit": manifest.unit,
            **{f"rows_{name}": count for name, count in manifest.rows.model_dump(by_alias=True).items()},
            **{name: value for name, value in manifest.summary.items() if value is not None},
        }

    @property
    def figures(self) -> dict[str, float]:
        """The numbers of its summary."""
        summary = self.manifest.summary.items()
        return {name: float(value) for name, value in summary if isinstance(value, int | float)}

    def text(self, name: str) -> str:
        """One of its files, in UTF-8."""
        return self.storage.read_bytes(name).decode()


def run_stage(
    stage: str,
    config: str,
    run_dir: str,
    overrides: Sequence[str] = (),
    *,
    tell: Callable[[str], None] = say,
) -> DoneStage:
    """Run a stage of a run or of a night, unless it is done, where `cluster.submit` says.

    `config` is YAML, or the path or URI where it lies; `overrides` are KEY=VALUE. Raises ConfigError and InputError for
    what the stage cannot run with, JobError if its job fails or leaves no manifest.
    """
    check_ray_version()
    given = given_config(config, overrides)
    if given.cluster.submit.kind != "here":
        check_shared(given, run_dir)
    tree, place = settled(given, run_dir)
    specs = NIGHT if tree.night else STAGES
    if stage not in specs:
        owner = "a night: prefopt retrain writes its config, night.yaml" if stage in NIGHT else "a run"
        raise ConfigError(f"{stage!r} is no stage of this config's: {', '.join(specs)}. It belongs to {owner}.")
    chain = Chain(tree, place, start_engine=_no_work, progress=lambda *_: None, stages=specs)
    skipped = chain.is_done(stage)
    if not skipped:
        chain.context(stage)  # a missing parent is told before anything is submitted
        labels = {"app.kubernetes.io/name": "prefopt", "app.kubernetes.io/component": stage}
        job = Job(job_name(stage, chain.key(stage), place), job_arguments(stage, tree, place), labels)
        _submitter(tree, stage).run(job, tell)
        if not chain.is_done(stage):
            raise JobError(
                f"The job {job.name} ended well, but {chain.directory(stage).uri} holds no whole output of {stage}."
                " Either it saw another storage than this process, or its sources or models changed meanwhile."
            )
    (outcome,) = chain.run([stage])
    return DoneStage(skipped, outcome.output.storage, outcome.output.manifest)


def run_command(
    command: str,
    config: str,
    run_dir: str,
    overrides: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    tell: Callable[[str], None] = say,
) -> dict[str, Any]:
    """What another prefopt command answers, of a config as `run_stage` takes it. It runs here. Raises ConfigError, and
    JobError if the command fails."""
    tree, place = settled(given_config(config, overrides), run_dir)
    return answer([command, place_config(dump_config(tree), place), *options, "--run-dir", place], tell)


def submitter(config: RunConfig) -> Submitter:
    """What runs jobs where `cluster.submit` says."""
    submit = config.cluster.submit
    match submit.kind:
        case "here":
            return HereSubmitter()
        case "ray":
            return RayJobsSubmitter(submit)
        case "kubernetes":
            return RayJobSubmitter(submit)


def _submitter(config: RunConfig, stage: str) -> Submitter:
    submit = config.cluster.submit
    if submit.kind == "here" or stage not in submit.stages:
        return HereSubmitter()
    if submit.kind == "kubernetes" and stage == "train":
        check_fits(config, submit)
    return submitter(config)


def check_fits(config: RunConfig, submit: KubernetesConfig) -> None:
    """ConfigError if training wants more GPUs than the job's cluster will have: it would wait for them for ever."""
    wanted, there = config.train.workers * config.cluster.worker_gpus, submit.workers.number * submit.workers.gpus
    if wanted > there:
        raise ConfigError(
            f"train.workers {config.train.workers} x cluster.worker_gpus {config.cluster.worker_gpus:g} are more than"
            f" the {there} GPUs of cluster.submit.workers ({submit.workers.number} x {submit.workers.gpus}): training"
            " would wait for them for ever. Raise workers.number or workers.gpus, or lower train.workers."
        )


def _no_work() -> None:
    raise AssertionError("a stage that is done needs no engine")
