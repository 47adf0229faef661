"""`prefopt submit ray`: a stage as a job of a Ray cluster."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from prefopt.cli.common import AsJson, ConfigPath, Debug, Limit, Overrides, RunDir, configure, print_json
from prefopt.config.submit import RaySubmitConfig
from prefopt.data.manifest import MANIFEST
from prefopt.errors import ConfigError
from prefopt.platform.jobs import Job, JobError, job_arguments, job_name
from prefopt.platform.places import settled
from prefopt.platform.ray_jobs import RayJobsSubmitter
from prefopt.stages.chain import Chain
from prefopt.stages.keys import NIGHT, STAGES

WHOLE = "run"


def submit_ray(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="A stage, or run for all of them.")],
    config: ConfigPath,
    ray_address: Annotated[
        str,
        typer.Option(
            "--ray-address", envvar="RAY_API_SERVER_ADDRESS", help="The dashboard's, for example http://head:8265."
        ),
    ],
    run_dir: RunDir = None,
    set_: Overrides = None,
    limit: Limit = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stream the log until the job ends.")] = True,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Submit a stage to a Ray cluster, or watch the same stage where it runs already. Exits with the job's own code."""
    tree, place = settled(*configure(config, run_dir, set_, limit, None))
    specs = NIGHT if tree.night else STAGES
    if stage not in (*specs, WHOLE):
        raise ConfigError(f"{stage!r} is no stage: choose one of {', '.join((*specs, WHOLE))}.")
    chain = Chain(tree, place, start_engine=lambda: None, progress=lambda *_: None, stages=specs)
    last = list(specs)[-1] if stage == WHOLE else stage
    job = Job(job_name(stage, chain.key(last), place), job_arguments(stage, tree, place))
    submitter = RayJobsSubmitter(RaySubmitConfig(kind="ray", address=ray_address))
    name = submitter.submit(job, _tell, done=chain.is_done(last))
    manifest = None
    if wait:
        _watched(submitter, name)
        manifest = f"{chain.finished(last, needed_by='The end of the job').storage.uri}/{MANIFEST}"
    if json_:
        print_json({"job": name, "stage": last, "key": chain.key(last), "manifest": manifest})
    else:
        typer.echo(f"Job {name}: {manifest or 'submitted'}")


def _watched(submitter: RayJobsSubmitter, name: str) -> None:
    """Until the job ends. Ctrl-C asks whether it shall."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is in the background
        signal.signal(signal.SIGINT, _interrupt)  # Python's own handler gives way to asyncio's
    try:
        submitter.watch(name, _tell)
    except KeyboardInterrupt:
        if sys.stdin.isatty() and typer.confirm(f"\nStop job {name}? Otherwise it goes on.", err=True):
            submitter.stop(name)
            raise JobError(f"Job {name} was stopped. Finished work is kept; submit it again to go on.", 130) from None
        raise JobError(f"Job {name} goes on. The same command watches it again.", 130) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(line: str) -> None:
    typer.echo(line, err=True)
