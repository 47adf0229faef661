"""A RayJob that is submitted while the test plays the operator."""

import threading
from typing import Any

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.errors import PrefoptError
from prefopt.platform.jobs import Job, JobError
from prefopt.platform.kubernetes.rayjob import RayJobSubmitter
from tests.kit.kube_api import NAMESPACE, KubeApi

NAME = "nightly-train"
JOB = Job(NAME, ("train", "s3://bucket/config.yaml", "--run-dir", "s3://bucket/run"))
CREATED = f"RayJob {NAME} is created in namespace {NAMESPACE}."
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}


class Run:
    """A submission in a thread, so that the test can play the operator."""

    def __init__(self, **config: Any) -> None:
        self.told: list[str] = []
        self._more = threading.Condition()
        self.error: PrefoptError | None = None
        self._submitter = RayJobSubmitter(KubernetesConfig(kind="kubernetes", **config))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._submitter.run(JOB, self._tell)
        except PrefoptError as error:
            self.error = error

    def _tell(self, line: str) -> None:
        with self._more:
            self.told.append(line)
            self._more.notify_all()

    def wait_for(self, line: str) -> None:
        """Until this line was told."""
        with self._more:
            assert self._more.wait_for(lambda: line in self.told, 120), self.told

    def end(self) -> list[str]:
        """What was told, once it has ended."""
        self._thread.join(120)
        assert not self._thread.is_alive(), f"it goes on after {self.told}"
        return self.told

    def failure(self) -> JobError:
        """The error with which it ends."""
        self.end()
        assert isinstance(self.error, JobError), self.told
        return self.error


def existing(**status: str) -> dict[str, Any]:
    """A RayJob that is there already."""
    return {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": {}, "status": status}


def watched(api: KubeApi) -> None:
    """Wait until the job is there and somebody watches."""
    api.wait(lambda: NAME in api.jobs and api.watches())


def at_once(api: KubeApi, **status: str) -> None:
    """The operator ends each job as soon as it is created."""
    api.on_create = lambda job: api.status(NAME, **status)
