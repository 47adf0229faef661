"""RayJobs against an API of Kubernetes on loopback: real HTTP, watches and logs, no cluster."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.errors import ConfigError, PrefoptError
from prefopt.platform import kube
from prefopt.platform.jobs import Job, JobError
from prefopt.platform.rayjob import RayJobSubmitter
from tests.kit.kube_api import JOBS, NAMESPACE, PODS, KubeApi, kube_api, write_kubeconfig

ROOT = Path(__file__).parents[2]
NAME = "nightly-train"
JOB = Job(NAME, ("train", "s3://bucket/config.yaml", "--run-dir", "s3://bucket/run"))
CREATED = f"RayJob {NAME} is created in namespace {NAMESPACE}."
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    for name in ("POD_NAME", "POD_UID", "POD_NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with kube_api() as (cluster, address):
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", address)))
        yield cluster


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
            assert self._more.wait_for(lambda: line in self.told, 30), self.told

    def end(self) -> list[str]:
        """What was told, once it has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive(), f"it goes on after {self.told}"
        return self.told

    def failure(self) -> JobError:
        """The error with which it ends."""
        self.end()
        assert isinstance(self.error, JobError), self.told
        return self.error


def existing(**status: str) -> dict[str, Any]:
    return {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": {}, "status": status}


def watched(api: KubeApi) -> None:
    api.wait(lambda: NAME in api.jobs and api.watches())


def at_once(api: KubeApi, **status: str) -> None:
    """The operator ends each job as soon as it is created."""
    api.on_create = lambda job: api.status(NAME, **status)


def test_a_job_is_created_followed_and_done(api: KubeApi) -> None:
    run = Run()
    watched(api)
    api.status(NAME, jobDeploymentStatus="Initializing")
    api.pod("submitter", NAME, ["reading", "step 1"])
    api.status(NAME, jobDeploymentStatus="Running", jobStatus="RUNNING")
    run.wait_for("step 1")
    api.say("submitter", "the last line")
    api.end_pod("submitter")
    api.status(NAME, **DONE)
    told = run.end()
    assert run.error is None
    assert told[0] == CREATED
    assert [line for line in told if not line.startswith("RayJob")] == ["reading", "step 1", "the last line"]
    (created,) = [asked for asked in api.asked if asked.method == "POST"]
    assert created.body["spec"]["entrypoint"] == "prefopt train s3://bucket/config.yaml --run-dir s3://bucket/run"
    assert created.query["fieldValidation"] == "Strict"
    assert api.count("DELETE", f"{JOBS}/{NAME}") == 0


def test_a_second_submission_watches_the_first(api: KubeApi) -> None:
    first = Run()
    watched(api)
    api.status(NAME, jobDeploymentStatus="Running")
    second = Run()
    second.wait_for(f"RayJob {NAME} is there already, Running: it is watched.")
    api.status(NAME, **DONE)
    first.end()
    second.end()
    assert first.error is None
    assert second.error is None
    assert len(api.jobs) == 1


def test_a_job_that_is_done_is_not_run_again(api: KubeApi) -> None:
    api.put(existing(**DONE))
    api.pod("submitter", NAME, ["what it said"], ended=True)
    told = Run().end()
    assert told == [f"RayJob {NAME} is there already, Complete: it is watched.", "what it said"]


def test_a_watch_goes_on_where_the_connection_dropped(api: KubeApi) -> None:
    run = Run()
    watched(api)
    version = int(api.jobs[NAME]["metadata"]["resourceVersion"])
    lists = api.count("GET", JOBS) - api.count("GET", JOBS, watch="True")
    for number in range(1, 4):
        api.cut()
        api.wait(lambda number=number: api.count("GET", JOBS, watch="True") > number and api.watches())
    api.status(NAME, **DONE)
    run.end()
    assert run.error is None
    watches = [asked for asked in api.asked if asked.query.get("watch")]
    assert {int(asked.query["resourceVersion"]) for asked in watches} == {version}
    assert api.count("GET", JOBS) - len(watches) == lists


def test_a_version_that_is_too_old_is_listed_again(api: KubeApi) -> None:
    run = Run()
    watched(api)
    api.status(NAME, jobDeploymentStatus="Initializing")
    api.put({"metadata": {"name": "another"}, "spec": {}})
    api.forget_history()
    lists = api.count("GET", JOBS) - api.count("GET", JOBS, watch="True")
    api.cut()
    api.wait(lambda: api.count("GET", JOBS) - api.count("GET", JOBS, watch="True") > lists and api.watches())
    api.status(NAME, **DONE)
    run.end()
    assert run.error is None


def test_a_failed_job_gives_its_reason_its_last_lines_and_its_exit_code(api: KubeApi) -> None:
    api.pod("submitter", NAME, [f"line {number}" for number in range(30)], ended=True)
    at_once(api, **FAILED, message="Job entrypoint command failed with exit code 4, last available logs\nmore")
    error = Run().failure()
    words, *lines = str(error).splitlines()
    assert words == (
        f"RayJob {NAMESPACE}/{NAME} failed (AppFailed: Job entrypoint command failed with exit code 4, last available"
        " logs)."
    )
    assert lines == [f"line {number}" for number in range(10, 30)]
    assert error.exit_code == 4


def test_a_job_that_the_operator_refuses_is_an_error(api: KubeApi) -> None:
    at_once(api, jobDeploymentStatus="ValidationFailed", reason="ValidationFailed", message="name is too long")
    error = Run().failure()
    assert str(error) == f"RayJob {NAMESPACE}/{NAME} failed (ValidationFailed: name is too long)."
    assert error.exit_code == 1


def test_a_job_that_was_stopped_is_no_success(api: KubeApi) -> None:
    at_once(api, jobDeploymentStatus="Complete", jobStatus="STOPPED")
    assert str(Run().failure()) == f"RayJob {NAMESPACE}/{NAME} was stopped (Complete)."


@pytest.mark.parametrize(
    ("reason", "setting"),
    [("DeadlineExceeded", "deadline_seconds"), ("PreRunningDeadlineExceeded", "pre_running_seconds")],
)
def test_a_deadline_names_its_setting(api: KubeApi, reason: str, setting: str) -> None:
    at_once(api, jobDeploymentStatus="Failed", reason=reason)
    assert f"cluster.submit.{setting}" in str(Run().failure())


def test_a_job_may_wait_for_its_queue_and_then_run(api: KubeApi) -> None:
    run = Run(queue="gpus", suspended_seconds=60)
    watched(api)
    api.status(NAME, suspend=True, jobDeploymentStatus="Suspended")
    run.wait_for(f"RayJob {NAME} is suspended: it waits for its queue.")
    api.status(NAME, suspend=False, jobDeploymentStatus="Running")
    api.status(NAME, **DONE)
    told = run.end()
    assert run.error is None
    assert told[:2] == [CREATED, f"RayJob {NAME} is suspended: it waits for its queue."]


def test_a_job_that_waits_too_long_is_deleted(api: KubeApi) -> None:
    api.on_create = lambda job: api.status(NAME, suspend=True)
    error = Run(queue="gpus", suspended_seconds=0.5).failure()
    assert "longer than cluster.submit.suspended_seconds (0.5)" in str(error)
    assert NAME not in api.jobs


@pytest.mark.parametrize(
    "status", [FAILED, {"jobDeploymentStatus": "ValidationFailed"}, {**DONE, "jobStatus": "STOPPED"}]
)
def test_a_job_that_failed_is_made_anew_once_it_is_gone(api: KubeApi, status: dict[str, str]) -> None:
    api.finalizers = True
    api.put(existing(**status))
    former = api.jobs[NAME]["metadata"]["uid"]
    run = Run()
    api.wait(lambda: api.jobs[NAME]["metadata"].get("deletionTimestamp") and api.watches())
    assert api.count("POST", JOBS) == 1, "made anew before the former is gone"
    api.remove(NAME)
    api.wait(lambda: NAME in api.jobs)
    api.status(NAME, **DONE)
    told = run.end()
    assert run.error is None
    assert told[:2] == [f"RayJob {NAME} failed before: it is deleted and made anew.", CREATED]
    assert api.jobs[NAME]["metadata"]["uid"] != former
    (deletion,) = [asked.body for asked in api.asked if asked.method == "DELETE"]
    assert deletion["preconditions"] == {"uid": former}
    assert deletion["propagationPolicy"] == "Foreground", "the next one could find the former's submitter"


def test_a_job_that_someone_deletes_is_awaited_and_made_anew(api: KubeApi) -> None:
    job = existing(jobDeploymentStatus="Running")
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    api.put(job)
    run = Run()
    api.wait(lambda: api.watches())
    api.remove(NAME)
    api.wait(lambda: NAME in api.jobs)
    api.status(NAME, **DONE)
    run.end()
    assert run.error is None
    assert api.count("DELETE", f"{JOBS}/{NAME}") == 0


def test_a_job_deleted_under_its_watcher_is_an_error(api: KubeApi) -> None:
    run = Run()
    watched(api)
    api.status(NAME, jobDeploymentStatus="Running")
    run.wait_for(f"RayJob {NAME} is Running.")
    api.remove(NAME)
    assert str(run.failure()) == f"RayJob {NAMESPACE}/{NAME} was deleted while it was Running."


def test_a_job_that_is_gone_after_its_end_was_a_success(api: KubeApi) -> None:
    run = Run()
    watched(api)
    api.status(NAME, **DONE)
    api.remove(NAME)
    run.end()
    assert run.error is None


def test_a_log_goes_on_where_its_connection_dropped(api: KubeApi) -> None:
    run = Run()
    watched(api)
    api.pod("submitter", NAME)
    for number in range(3):
        api.say("submitter", f"at one time {number}", at=1.25)
    api.status(NAME, jobDeploymentStatus="Running")
    log = f"{PODS}/submitter/log"
    run.wait_for("at one time 2")
    api.cut()
    api.wait(lambda: api.count("GET", log) == 2)
    api.say("submitter", "at one time 3", at=1.25)
    api.say("submitter", "later", at=1.5)
    api.end_pod("submitter")
    api.status(NAME, **DONE)
    run.end()
    log_lines = [line for line in run.told if not line.startswith("RayJob")]
    assert log_lines == [*(f"at one time {number}" for number in range(4)), "later"]
    again = next(asked for asked in reversed(api.asked) if asked.path == log)
    assert int(again.query["sinceSeconds"]) > 60


def test_the_log_of_a_new_submitter_follows_that_of_the_first(api: KubeApi) -> None:
    api.pod("first", NAME, ["begun"], ended=True)
    run = Run()
    watched(api)
    api.status(NAME, jobDeploymentStatus="Running")
    run.wait_for("begun")
    api.pod("second", NAME, ["begun", "done"], ended=True)
    api.status(NAME, **DONE)
    assert [line for line in run.end() if not line.startswith("RayJob")] == ["begun", "begun", "done"]


def test_a_log_that_may_not_be_read_is_told_and_the_job_goes_on(api: KubeApi) -> None:
    said = 'pods "x" is forbidden: User "u" cannot get resource "pods/log" in API group ""'
    api.pod("submitter", NAME, ["unseen"], ended=True)
    api.refused["GET", f"{PODS}/submitter/log"] = (403, said)
    at_once(api, **DONE)
    run = Run()
    told = run.end()
    assert run.error is None
    assert told[-1].startswith(f"The log cannot be followed: Not allowed to get pods/log in namespace {NAMESPACE}")


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [("POST", JOBS, "create"), ("GET", JOBS, "list"), ("DELETE", f"{JOBS}/{NAME}", "delete")],
)
def test_a_missing_permission_is_named(api: KubeApi, method: str, path: str, verb: str) -> None:
    said = f'rayjobs.ray.io is forbidden: User "system:serviceaccount:team:x" cannot {verb} resource "rayjobs"'
    api.refused[method, path] = (403, said)
    api.put(existing(**FAILED))
    words = str(Run().failure())
    assert f"Not allowed to {verb} rayjobs in namespace {NAMESPACE} (403)" in words
    assert "k8s/base" in words
    assert said in words


def test_a_quota_is_no_missing_permission(api: KubeApi) -> None:
    api.refused["POST", JOBS] = (403, 'rayjobs.ray.io "x" is forbidden: exceeded quota: count/rayjobs.ray.io=1')
    words = str(Run().failure())
    assert "exceeded quota" in words
    assert "k8s/base" not in words


def test_a_cluster_without_ray_jobs_is_named(api: KubeApi) -> None:
    api.refused["POST", JOBS] = (404, "the server could not find the requested resource")
    assert "KubeRay" in str(Run().failure())


def test_a_wrong_token_is_told_and_never_shown(api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(Path(os.environ["KUBECONFIG"]).read_text()).split("server: ")[1].split()[0]
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "old", address, token="an-old-one")))
    words = str(Run().failure())
    assert "does not know who asks to create rayjobs (401)" in words
    assert "an-old-one" not in words


def test_a_cluster_that_does_not_answer_is_named(api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "RETRIES", 1)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "away", "http://127.0.0.1:9")))
    assert "Cannot reach Kubernetes at http://127.0.0.1:9 to create rayjobs" in str(Run().failure())


def test_no_kubeconfig_is_a_wrong_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Set KUBECONFIG"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, lambda line: None)


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ConfigError, match=r"pip install 'prefopt\[kubeflow\]'"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, lambda line: None)


def test_a_cluster_that_goes_away_leaves_the_job_to_its_next_watcher(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "RETRIES", 0)
    run = Run()
    watched(api)
    api.refused["GET", JOBS] = (503, "the server is currently unable to handle the request")
    api.cut()
    assert str(run.failure()).endswith(f"RayJob {NAMESPACE}/{NAME} goes on: who submits it again watches it.")
    assert NAME in api.jobs
    api.refused.clear()
    api.status(NAME, **DONE)
    again = Run()
    again.end()
    assert again.error is None


def test_a_job_that_vanishes_before_it_can_be_watched_is_created(api: KubeApi) -> None:
    api.failing = [("POST", JOBS, 409)]
    at_once(api, **DONE)
    run = Run()
    run.end()
    assert run.error is None
    assert CREATED in run.told


def test_a_server_error_is_asked_again(api: KubeApi) -> None:
    api.failing = [("POST", JOBS, 503), ("GET", JOBS, 500)]
    at_once(api, **DONE)
    run = Run()
    run.end()
    assert run.error is None
    assert api.count("POST", JOBS) == 2


def test_a_job_that_could_never_run_is_not_sent(api: KubeApi) -> None:
    with pytest.raises(ConfigError, match="48 characters, 47 at most"):
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(Job("a" * 48, ("train",)), lambda line: None)
    assert api.count("POST", JOBS) == 0


@pytest.mark.parametrize(("namespace", "owned"), [(NAMESPACE, True), ("another", False)])
def test_the_job_belongs_to_the_pod_that_submits_it_if_both_lie_in_one_namespace(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch, namespace: str, owned: bool
) -> None:
    for name, value in {"POD_NAME": "component", "POD_UID": "1-2-3", "POD_NAMESPACE": namespace}.items():
        monkeypatch.setenv(name, value)
    at_once(api, **DONE)
    Run().end()
    references = api.jobs[NAME]["metadata"].get("ownerReferences", [])
    assert [(owner["kind"], owner["name"], owner["uid"]) for owner in references] == [
        ("Pod", "component", "1-2-3")
    ] * owned


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watcher_that_is_told_to_end_deletes_its_job(api: KubeApi, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.rayjob_main", NAME],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        watched(api)
        process.send_signal(number)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert f"Told to end: RayJob {NAME} is deleted." in said, errors
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}[number]
    assert NAME not in api.jobs


def test_a_former_signal_handler_is_back_afterwards(api: KubeApi) -> None:
    former: Callable[..., None] = lambda number, frame: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, former)
    try:
        at_once(api, **DONE)
        RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, lambda line: None)
        assert signal.getsignal(signal.SIGTERM) is former
    finally:
        signal.signal(signal.SIGTERM, before)
