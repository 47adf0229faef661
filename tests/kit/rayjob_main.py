"""A process that submits one RayJob, to be told to end: `python -m tests.kit.rayjob_main NAME`."""

import sys

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.rayjob import RayJobSubmitter


def say(line: str) -> None:
    """Of the job."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(Job(sys.argv[1], ("train", "config.yaml")), say)
