"""The life of a RayJob against an API of Kubernetes on loopback: real HTTP and watches, no cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.platform.kubernetes.rayjob import RayJobSubmitter
from tests.kit.kube_api import JOBS, NAMESPACE, KubeApi
from tests.kit.processes import HEED_INTERRUPTS
from tests.kit.rayjobs import CREATED, DONE, FAILED, JOB, NAME, Run, at_once, existing, watched

ROOT = Path(__file__).parents[3]


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


def test_a_job_that_ends_well_while_a_second_submission_comes_is_its_success(api: KubeApi) -> None:
    api.put(existing(jobDeploymentStatus="Running"))
    api.pod("submitter", NAME, ["what it said"], ended=True)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("it is watched."):
            api.status(NAME, **DONE)

    RayJobSubmitter(KubernetesConfig(kind="kubernetes")).run(JOB, tell)
    assert told == [f"RayJob {NAME} is there already, Running: it is watched.", "what it said"]
    assert api.count("DELETE", f"{JOBS}/{NAME}") == 0


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


def test_an_image_that_is_missing_is_thought_of_when_the_cluster_does_not_start(api: KubeApi) -> None:
    at_once(api, jobDeploymentStatus="Failed", reason="PreRunningDeadlineExceeded")
    error = Run().failure()
    assert (error.exit_code, "can they pull the image?" in str(error)) == (1, True)


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
    "status", [DONE, FAILED, {"jobDeploymentStatus": "ValidationFailed"}, {**DONE, "jobStatus": "STOPPED"}]
)
def test_a_job_that_has_ended_is_made_anew_once_it_is_gone(api: KubeApi, status: dict[str, str]) -> None:
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
    ended = status["jobDeploymentStatus"]
    assert told[:2] == [f"RayJob {NAME} has ended before, {ended}: it is deleted and made anew.", CREATED]
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


@pytest.mark.parametrize("prefix", ["", "KFP_"])
@pytest.mark.parametrize(("namespace", "owned"), [(NAMESPACE, True), ("another", False)])
def test_the_job_belongs_to_the_pod_that_submits_it_if_both_lie_in_one_namespace(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch, prefix: str, namespace: str, owned: bool
) -> None:
    pod = {f"{prefix}POD_NAME": "component", f"{prefix}POD_UID": "1-2-3"}
    for name, value in {**pod, "POD_NAMESPACE": namespace}.items():
        monkeypatch.setenv(name, value)
    at_once(api, **DONE)
    Run().end()
    references = api.jobs[NAME]["metadata"].get("ownerReferences", [])
    assert [(owner["kind"], owner["name"], owner["uid"]) for owner in references] == [
        ("Pod", "component", "1-2-3")
    ] * owned


def told_to_end(api: KubeApi, number: signal.Signals) -> str:
    """What a process says that submits the job, and gets a signal while it watches."""
    process = subprocess.Popen(
        [*HEED_INTERRUPTS, sys.executable, "-m", "tests.kit.rayjob_main", NAME],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        watched(api)
        process.send_signal(number)
        said, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}[number], errors
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watcher_that_is_told_to_end_deletes_the_job_that_it_made(api: KubeApi, number: signal.Signals) -> None:
    assert f"Told to end: RayJob {NAME} is deleted." in told_to_end(api, number)
    assert NAME not in api.jobs


def test_a_watcher_that_is_told_to_end_leaves_the_job_of_another(api: KubeApi) -> None:
    api.put(existing(jobDeploymentStatus="Running"))
    said = told_to_end(api, signal.SIGTERM)
    assert f"Told to end: RayJob {NAME} goes on, for another submission made it." in said
    assert NAME in api.jobs
    assert api.count("DELETE", f"{JOBS}/{NAME}") == 0


def test_a_job_whose_creation_got_no_answer_is_known_as_ones_own(api: KubeApi) -> None:
    api.lost_answers = 1
    assert f"Told to end: RayJob {NAME} is deleted." in told_to_end(api, signal.SIGTERM)
    assert api.count("POST", JOBS) == 2
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
