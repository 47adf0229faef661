"""Logs of a RayJob, followed through broken connections and new pods."""

from tests.kit.kube_api import NAMESPACE, PODS, KubeApi
from tests.kit.rayjobs import DONE, NAME, Run, at_once, watched


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
